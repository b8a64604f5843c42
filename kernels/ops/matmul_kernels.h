// Matrix products. Each element of C is one sequential chain of fused multiply-adds over k = 0 … K−1, the
// same for every M, N, form, thread count and for packed weights: a row's result depends on no other row,
// and no order of summation depends on how M or N are split.
#pragma once
#include <span>

#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

enum class MatmulForm : uint8_t {
  nt,  // C[M, N] = A[M, K] · B[N, K]ᵀ   y = x Wᵀ
  nn,  // C[M, N] = A[M, K] · B[K, N]    dx = dy W
  tn,  // C[M, N] = A[K, M]ᵀ · B[K, N]   dW = dyᵀ x
};

struct MatmulOptions {
  // The chain starts at C instead of at zero. So products over slices of K, one after another, have the
  // bits of the one product over all of K (bf16: slices of even length): gradients of microbatches add
  // up to those of the whole batch.
  bool accumulate = false;
  const Tensor* bias = nullptr;  // [N], any floating-point dtype: added to each row after the sum
};

// A weight [N, K] in the order in which multiply_packed reads it. Layout is the device's own.
struct PackedMatrix {
  Tensor panels;
  DType dtype = DType::f32;  // of the weight
  int64_t N = 0, K = 0;

  bool defined() const { return panels.defined(); }
};

// dtypes: A and B alike; f64 → C f64, f32 → C f32, bf16 → C bf16 or f32 (summed in f32, rounded once).
// Any size may be 0 or 1. C shares no storage with A or B. Scratch memory comes from the device's
// allocator (kind `buffers`): the part of B (TN: also of A) in work, a few MB at most.
struct MatmulKernels {
  // All dimensions but the last are flattened into rows.
  void (*multiply)(Device&, MatmulForm, const Tensor& a, const Tensor& b, Tensor& c, const MatmulOptions&);
  // G products: [G…, rows, columns] each; leading dimensions alike.
  void (*batched)(Device&, MatmulForm, const Tensor& a, const Tensor& b, Tensor& c, const MatmulOptions&);
  // Groups of rows [offsets[g], offsets[g + 1]) of A and G matrices: nt, nn: C's rows of the group = A's rows of it ·
  // B[g], with B [G, …, …]; tn: C[g] = A's rows of the groupᵀ · B's rows of it, with C [G, M, N]. An empty group has
  // no rows in C, and a C[g] of zeros (or as it was: accumulate). No bias.
  void (*grouped)(Device&, MatmulForm, const Tensor& a, const Tensor& b, Tensor& c, std::span<const int64_t> offsets,
                  const MatmulOptions&);
  // Once per weight; for products with few rows (decode), which then only stream the weight.
  PackedMatrix (*pack)(Device&, const Tensor& weight, MemoryKind);
  // Form nt with B packed: the same bits as `multiply`.
  void (*multiply_packed)(Device&, const Tensor& a, const PackedMatrix& b, Tensor& c, const MatmulOptions&);
};

}  // namespace troupe::kernels
