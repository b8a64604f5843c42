// The products' building blocks of gemm_micro-inl.h for the best instruction set, behind plain functions.
#pragma once
#include "kernels/tensor/dtype.h"

namespace troupe::kernels::cpu {

// Elements of A and B are of one dtype, sums of accumulator_of(dtype); strides count elements, except
// those of panels, which count words.
struct GemmEngine {
  int64_t tile_rows;    // rows of C that one pass over a panel serves
  int64_t panel_width;  // columns of B side by side in a panel
  int64_t step_depth;   // how many k lie in one word
  int64_t word_bytes;

  int64_t steps(int64_t k) const { return (k + step_depth - 1) / step_depth; }
  int64_t panels(int64_t n) const { return (n + panel_width - 1) / panel_width; }

  // B[n, k] (n_by_k) or B[k, n] into panels.
  void (*pack)(const void* b, int64_t ldb, bool n_by_k, int64_t n, int64_t k, void* panels, int64_t panel_stride);
  // out[m, k] = a[k, m]ᵀ; ldo even.
  void (*transpose)(const void* a, int64_t lda, int64_t k, int64_t m, void* out, int64_t ldo);
  // c[m, n] = (start_at_c ? c : 0) + a[m, k] · B
  void (*multiply)(int64_t m, int64_t n, int64_t k, const void* a, int64_t lda, const void* panels,
                   int64_t panel_stride, void* c, int64_t ldc, bool start_at_c);
  // sums[m, n] = c[m, n], and c[m, n] = sums[m, n] + bias[n], for C of the sums' dtype or bf16. bias, of
  // the sums' dtype, may be null; sums may be c itself where the dtypes are equal.
  void (*load_sums)(int64_t m, int64_t n, DType c_type, const void* c, int64_t ldc, void* sums, int64_t ld_sums);
  void (*store_sums)(int64_t m, int64_t n, const void* sums, int64_t ld_sums, const void* bias, DType c_type, void* c,
                     int64_t ldc);
};

// Lives forever; after a change of cap_isa (isa.h) ask again.
const GemmEngine& gemm_engine(DType);

}  // namespace troupe::kernels::cpu
