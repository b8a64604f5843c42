#include "kernels/cpu/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/gemm_micro-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu::HWY_NAMESPACE {

template <class T>
void pack(const void* b, int64_t ldb, bool n_by_k, int64_t n, int64_t k, void* panels, int64_t panel_stride) {
  pack_panels<T>(static_cast<const T*>(b), ldb, n_by_k ? BLayout::n_by_k : BLayout::k_by_n, n, k,
                 static_cast<Word<T>*>(panels), panel_stride);
}

template <class T>
void transpose(const void* a, int64_t lda, int64_t k, int64_t m, void* out, int64_t ldo) {
  transpose_rows<T>(static_cast<const T*>(a), lda, k, m, static_cast<T*>(out), ldo);
}

template <class T>
void multiply(int64_t m, int64_t n, int64_t k, const void* a, int64_t lda, const void* panels, int64_t panel_stride,
              void* c, int64_t ldc, bool start_at_c) {
  multiply_block<T>(m, n, k, static_cast<const T*>(a), lda, static_cast<const Word<T>*>(panels), panel_stride,
                    static_cast<Accumulator<T>*>(c), ldc, start_at_c);
}

template <class T>
void load_sums(int64_t m, int64_t n, DType c_type, const void* c, int64_t ldc, void* sums, int64_t ld_sums) {
  dispatch_float(c_type, [&]<class C>() HWY_ATTR {
    for (int64_t i = 0; i < m; ++i) {
      const C* from = static_cast<const C*>(c) + i * ldc;
      Accumulator<T>* to = static_cast<Accumulator<T>*>(sums) + i * ld_sums;
      for (int64_t j = 0; j < n; ++j) to[j] = static_cast<Accumulator<T>>(from[j]);
    }
  });
}

template <class T>
void store_sums(int64_t m, int64_t n, const void* sums, int64_t ld_sums, const void* bias, DType c_type, void* c,
                int64_t ldc) {
  const auto* b = static_cast<const Accumulator<T>*>(bias);
  dispatch_float(c_type, [&]<class C>() HWY_ATTR {
    for (int64_t i = 0; i < m; ++i) {
      const Accumulator<T>* from = static_cast<const Accumulator<T>*>(sums) + i * ld_sums;
      C* to = static_cast<C*>(c) + i * ldc;
      if (b) {
        for (int64_t j = 0; j < n; ++j) to[j] = static_cast<C>(from[j] + b[j]);
      } else {
        for (int64_t j = 0; j < n; ++j) to[j] = static_cast<C>(from[j]);
      }
    }
  });
}

template <class T>
const GemmEngine& engine_for() {
  static constexpr GemmEngine kEngine{
      .tile_rows = kTileRows,
      .panel_width = kPanelWidth<T>,
      .step_depth = kStepDepth<T>,
      .word_bytes = sizeof(Word<T>),
      .pack = &pack<T>,
      .transpose = &transpose<T>,
      .multiply = &multiply<T>,
      .load_sums = &load_sums<T>,
      .store_sums = &store_sums<T>,
  };
  return kEngine;
}

const GemmEngine& engine(DType type) {
  if (type == DType::f64) return engine_for<double>();
  return type == DType::f32 ? engine_for<float>() : engine_for<bf16>();
}

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {
HWY_EXPORT(engine);
}  // namespace

const GemmEngine& gemm_engine(DType type) { return HWY_DYNAMIC_DISPATCH(engine)(type); }

}  // namespace troupe::kernels::cpu
#endif
