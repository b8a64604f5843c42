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

// to[n] = from[n], bf16 widened.
template <class T, class C>
HWY_INLINE void load_row(int64_t n, const C* HWY_RESTRICT from, T* HWY_RESTRICT to) {
  int64_t j = 0;
  if constexpr (std::is_same_v<C, bf16> && std::is_same_v<T, float>) {
    const hn::ScalableTag<float> d;
    const hn::RebindToUnsigned<decltype(d)> words;
    const hn::Rebind<uint16_t, decltype(d)> halves;
    for (; j + kTileLanes<float> <= n; j += kTileLanes<float>) {
      const auto bits = hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(from + j)));
      hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, to + j);
    }
  }
  for (; j < n; ++j) to[j] = static_cast<T>(from[j]);
}

// to[n] = from[n] + bias[n], bf16 rounded to nearest even as its constructor does; bias may be null. In
// place where T is C.
template <class T, class C>
HWY_INLINE void store_row(int64_t n, const T* from, const T* bias, C* to) {
  const hn::ScalableTag<T> d;
  int64_t j = 0;
  for (; j + kTileLanes<T> <= n; j += kTileLanes<T>) {
    auto sum = hn::LoadU(d, from + j);
    if (bias) sum = hn::Add(sum, hn::LoadU(d, bias + j));
    if constexpr (std::is_same_v<C, bf16>) {
      const hn::RebindToUnsigned<decltype(d)> words;
      const hn::RebindToSigned<decltype(d)> numbers;
      const hn::Rebind<uint16_t, decltype(d)> halves;
      const auto bits = hn::BitCast(words, sum);
      const auto upper = hn::ShiftRight<16>(bits);
      const auto even = hn::Add(hn::Set(words, 0x7FFF), hn::And(upper, hn::Set(words, 1)));
      const auto rounded = hn::ShiftRight<16>(hn::Add(bits, even));
      const auto quiet = hn::Or(upper, hn::Set(words, 0x40));
      const auto result = hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(sum)), quiet, rounded);
      hn::StoreU(hn::DemoteTo(halves, hn::BitCast(numbers, result)), halves, reinterpret_cast<uint16_t*>(to + j));
    } else {
      hn::StoreU(sum, d, to + j);
    }
  }
  for (; j < n; ++j) to[j] = static_cast<C>(bias ? from[j] + bias[j] : from[j]);
}

// Calls body with a null pointer of C's element type: bf16, or the sums' own.
template <class T, class Body>
HWY_INLINE void with_type_of_c(DType type, const Body& body) {
  if constexpr (std::is_same_v<T, float>) {
    if (type == DType::bf16) return body(static_cast<bf16*>(nullptr));
  }
  body(static_cast<T*>(nullptr));
}

template <class T>
void load_sums(int64_t m, int64_t n, DType c_type, const void* c, int64_t ldc, void* sums, int64_t ld_sums) {
  using Sum = Accumulator<T>;
  with_type_of_c<Sum>(c_type, [&]<class C>(C*) HWY_ATTR {
    for (int64_t i = 0; i < m; ++i) {
      load_row(n, static_cast<const C*>(c) + i * ldc, static_cast<Sum*>(sums) + i * ld_sums);
    }
  });
}

template <class T>
void store_sums(int64_t m, int64_t n, const void* sums, int64_t ld_sums, const void* bias, DType c_type, void* c,
                int64_t ldc) {
  using Sum = Accumulator<T>;
  with_type_of_c<Sum>(c_type, [&]<class C>(C*) HWY_ATTR {
    for (int64_t i = 0; i < m; ++i) {
      store_row(n, static_cast<const Sum*>(sums) + i * ld_sums, static_cast<const Sum*>(bias),
                static_cast<C*>(c) + i * ldc);
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
