// Matrix products: B into panels, Aᵀ into rows. Layout of a panel: gemm_tile-inl.h.
#if defined(TROUPE_KERNELS_CPU_GEMM_PACK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_KERNELS_CPU_GEMM_PACK_INL_H
#undef TROUPE_KERNELS_CPU_GEMM_PACK_INL_H
#else
#define TROUPE_KERNELS_CPU_GEMM_PACK_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using WordTag = hn::ScalableTag<Word<T>>;
template <class T>
using BlockTag = hn::FixedTag<Word<T>, 16 / sizeof(Word<T>)>;  // 128 bits: what one shuffle stays within

// The words of a matrix whose rows lie along k: word (r, s) is row r, step s.
template <class T>
struct WordsAlongK {
  const T* data;
  int64_t stride, k;

  hn::Vec<BlockTag<T>> block(int64_t r, int64_t s) const {
    return hn::LoadU(BlockTag<T>(), reinterpret_cast<const Word<T>*>(data + r * stride + s * kStepDepth<T>));
  }
  Word<T> word(int64_t r, int64_t s) const {
    const T* at = data + r * stride + s * kStepDepth<T>;
    if constexpr (!std::is_same_v<T, bf16>) return *at;
    else return at[0].bits | (2 * s + 1 < k ? static_cast<uint32_t>(at[1].bits) << 16 : 0u);
  }
};

// The words of a matrix whose rows are k: word (s, c) is step s, column c.
template <class T>
struct WordsAcrossK {
  const T* data;
  int64_t stride, k;

  template <class D>
  hn::Vec<D> load(D d, int64_t s, int64_t c) const {
    if constexpr (!std::is_same_v<T, bf16>) {
      return hn::LoadU(d, data + s * stride + c);
    } else {
      const hn::Rebind<uint16_t, D> half;
      const auto* even = reinterpret_cast<const uint16_t*>(data + 2 * s * stride + c);
      const auto low = hn::PromoteTo(d, hn::LoadU(half, even));
      const auto high = hn::PromoteTo(d, hn::LoadU(half, even + stride));
      return hn::Or(low, hn::ShiftLeft<16>(high));
    }
  }
  void prefetch(int64_t s, int64_t c) const {
    hwy::Prefetch(data + s * kStepDepth<T> * stride + c);
    if constexpr (kStepDepth<T> == 2) hwy::Prefetch(data + (s * 2 + (2 * s + 1 < k ? 1 : 0)) * stride + c);
  }
  hn::Vec<BlockTag<T>> block(int64_t s, int64_t c) const { return load(BlockTag<T>(), s, c); }
  Word<T> word(int64_t s, int64_t c) const {
    if constexpr (!std::is_same_v<T, bf16>) {
      return data[s * stride + c];
    } else {
      const T* at = data + 2 * s * stride + c;
      return at[0].bits | (2 * s + 1 < k ? static_cast<uint32_t>(at[stride].bits) << 16 : 0u);
    }
  }
};

// One vector of the 128-bit blocks at rows r, r + step, r + 2 step …
template <class T, class Words>
HWY_INLINE hn::Vec<WordTag<T>> load_blocks(const Words& in, int64_t r, int64_t step, int64_t c) {
#if HWY_TARGET == HWY_AVX3
  const WordTag<T> d;
  const hn::Half<WordTag<T>> half;
  return hn::Combine(d, hn::Combine(half, in.block(r + 3 * step, c), in.block(r + 2 * step, c)),
                     hn::Combine(half, in.block(r + step, c), in.block(r, c)));
#elif HWY_TARGET == HWY_AVX2
  return hn::Combine(WordTag<T>(), in.block(r + step, c), in.block(r, c));
#else
  return in.block(r, c);
#endif
}

// out[c · stride + r] = in(r, c). Whole vectors within [full_rows, full_columns], words one by one outside.
template <class T, class Words>
HWY_INLINE void transpose_words(const Words& in, int64_t rows, int64_t columns, int64_t full_rows, int64_t full_columns,
                                Word<T>* HWY_RESTRICT out, int64_t stride) {
  constexpr int64_t kL = kTileLanes<T>;
  constexpr int64_t kB = 16 / static_cast<int64_t>(sizeof(Word<T>));
  const WordTag<T> d;
  const hn::Repartition<uint64_t, WordTag<T>> pairs;
  const int64_t vector_rows = full_rows / kL * kL, vector_columns = full_columns / kB * kB;
  for (int64_t r = 0; r < vector_rows; r += kL) {
    for (int64_t c = 0; c < vector_columns; c += kB) {
      Word<T>* to = out + c * stride + r;
      const auto v0 = load_blocks<T>(in, r, kB, c), v1 = load_blocks<T>(in, r + 1, kB, c);
      if constexpr (kB == 2) {
        hn::StoreU(hn::InterleaveLower(d, v0, v1), d, to);
        hn::StoreU(hn::InterleaveUpper(d, v0, v1), d, to + stride);
      } else {
        const auto v2 = load_blocks<T>(in, r + 2, kB, c), v3 = load_blocks<T>(in, r + 3, kB, c);
        const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, v0, v1));
        const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, v2, v3));
        const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, v0, v1));
        const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, v2, v3));
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + stride);
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 2 * stride);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 3 * stride);
      }
    }
    for (int64_t c = vector_columns; c < columns; ++c) {
      for (int64_t i = 0; i < kL; ++i) out[c * stride + r + i] = in.word(r + i, c);
    }
  }
  for (int64_t r = vector_rows; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) out[c * stride + r] = in.word(r, c);
  }
}

enum class BLayout { n_by_k, k_by_n };

// B[n, k] or B[k, n] with row stride ldb into panels, `panel_stride` words apart. Columns beyond n are 0.
template <class T>
HWY_NOINLINE void pack_panels(const T* b, int64_t ldb, BLayout layout, int64_t n, int64_t k, Word<T>* panels,
                              int64_t panel_stride) {
  constexpr int64_t kW = kPanelWidth<T>, kL = kTileLanes<T>;
  const int64_t steps = steps_of<T>(k), full_steps = k / kStepDepth<T>;
  if (n % kW != 0) {
    Word<T>* last = panels + n / kW * panel_stride;
    for (int64_t s = 0; s < steps; ++s) std::fill(last + s * kW + n % kW, last + (s + 1) * kW, Word<T>(0));
  }
  if (layout == BLayout::n_by_k) {
    for (int64_t j = 0; j < n; j += kW, panels += panel_stride) {
      const int64_t width = std::min(kW, n - j);
      transpose_words<T>(WordsAlongK<T>{b + j * ldb, ldb, k}, width, steps, width, full_steps, panels, kW);
    }
    return;
  }
  constexpr int64_t kAhead = 8;  // rows: they are too far apart for the CPU's own prefetching
  const WordsAcrossK<T> in{b, ldb, k};
  const WordTag<T> d;
  for (int64_t s = 0; s < full_steps; ++s) {
    for (int64_t j = 0; j < n; j += kW) {
      Word<T>* to = panels + j / kW * panel_stride + s * kW;
      const int64_t width = std::min(kW, n - j);
      int64_t i = 0;
      for (; i + kL <= width; i += kL) {
        in.prefetch(std::min(s + kAhead, steps - 1), j + i);
        hn::StoreU(in.load(d, s, j + i), d, to + i);
      }
      for (; i < width; ++i) to[i] = in.word(s, j + i);
    }
  }
  for (int64_t j = 0; steps > full_steps && j < n; ++j) {
    panels[j / kW * panel_stride + full_steps * kW + j % kW] = in.word(full_steps, j);
  }
}

// out[m, k] = a[k, m]ᵀ, row stride ldo, even for bf16; an odd k is followed by a 0.
template <class T>
HWY_NOINLINE void transpose_rows(const T* a, int64_t lda, int64_t k, int64_t m, T* out, int64_t ldo) {
  transpose_words<T>(WordsAcrossK<T>{a, lda, k}, steps_of<T>(k), m, k / kStepDepth<T>, m,
                     reinterpret_cast<Word<T>*>(out), ldo / kStepDepth<T>);
}

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
