// Matrix products, the innermost level: panel layout and register tiles, once per instruction set.
// B lies in panels of kPanelWidth columns: for each step of k the panel's columns side by side. f64 and
// f32: a step is one k. bf16: a step is two, a word holds (k, k + 1), low half first; odd K ends in 0.
#if defined(TROUPE_KERNELS_CPU_GEMM_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_KERNELS_CPU_GEMM_TILE_INL_H
#undef TROUPE_KERNELS_CPU_GEMM_TILE_INL_H
#else
#define TROUPE_KERNELS_CPU_GEMM_TILE_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <array>
#include <utility>

#include "kernels/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 24 (AVX-512), 12 (AVX2) accumulators: with the B vectors and a broadcast they fill the register file.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 8;
inline constexpr int kTileVectors = 3;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 3;
#else
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 2;
#endif

template <class T>
using AccTag = hn::ScalableTag<Accumulator<T>>;
template <class T>
inline constexpr int64_t kTileLanes = static_cast<int64_t>(hn::MaxLanes(AccTag<T>()));
template <class T>
inline constexpr int64_t kPanelWidth = kTileLanes<T> * kTileVectors;
template <class T>
inline constexpr int64_t kStepDepth = std::is_same_v<T, bf16> ? 2 : 1;  // how many k one step holds
template <class T>
using Word = std::conditional_t<std::is_same_v<T, bf16>, uint32_t, T>;

template <class T>
constexpr int64_t steps_of(int64_t k) {
  return (k + kStepDepth<T> - 1) / kStepDepth<T>;
}
template <class T>
constexpr int64_t panels_of(int64_t n) {
  return (n + kPanelWidth<T> - 1) / kPanelWidth<T>;
}
template <class T>
constexpr int64_t panel_words(int64_t n, int64_t k) {
  return panels_of<T>(n) * kPanelWidth<T> * steps_of<T>(k);
}

// c[kRows, kVectors · lanes] = (start_at_c ? c : 0) + Σ a[row, s] · b[s, …] for T double and float.
template <class T, int kRows, int kVectors>
HWY_NOINLINE void tile(int64_t steps, const T* HWY_RESTRICT a, int64_t lda, const T* HWY_RESTRICT b, T* HWY_RESTRICT c,
                       int64_t ldc, bool start_at_c) {
  const AccTag<T> d;
  using V = hn::Vec<AccTag<T>>;
  constexpr int64_t kL = kTileLanes<T>;
  constexpr int64_t kAhead = (kRows <= 4 ? 32 : 16) * kPanelWidth<T>;
  V sum[kRows][kVectors];
  HWY_UNROLL(kRows)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = start_at_c ? hn::LoadU(d, c + r * ldc + v * kL) : hn::Zero(d);
  }
  for (int64_t s = 0; s < steps; ++s, b += kPanelWidth<T>) {
    V right[kVectors];
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) {
      right[v] = hn::LoadU(d, b + v * kL);
      hwy::Prefetch(b + kAhead + v * kL);
    }
    HWY_UNROLL(kRows)
    for (int r = 0; r < kRows; ++r) {
      const V left = hn::Set(d, a[r * lda + s]);
      HWY_UNROLL(kVectors)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
  HWY_UNROLL(kRows)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, c + r * ldc + v * kL);
  }
}

// The same for panels of bf16 pairs with A widened to f32 (a[row, 2 s], a[row, 2 s + 1]): even k first.
template <int kRows, int kVectors>
HWY_NOINLINE void tile_widening(int64_t steps, const float* HWY_RESTRICT a, int64_t lda, const uint32_t* HWY_RESTRICT b,
                                float* HWY_RESTRICT c, int64_t ldc, bool start_at_c) {
  const AccTag<float> d;
  const hn::RebindToUnsigned<AccTag<float>> du;
  using V = hn::Vec<AccTag<float>>;
  constexpr int64_t kL = kTileLanes<float>;
  V sum[kRows][kVectors];
  HWY_UNROLL(kRows)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = start_at_c ? hn::LoadU(d, c + r * ldc + v * kL) : hn::Zero(d);
  }
  for (int64_t s = 0; s < steps; ++s, b += kPanelWidth<float>) {
    V right[kVectors];
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) right[v] = hn::BitCast(d, hn::ShiftLeft<16>(hn::LoadU(du, b + v * kL)));
    HWY_UNROLL(kRows)
    for (int r = 0; r < kRows; ++r) {
      const V left = hn::Set(d, a[r * lda + 2 * s]);
      HWY_UNROLL(kVectors)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
    HWY_FENCE;  // or the words stay in registers that the sums need
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) {
      right[v] = hn::BitCast(d, hn::And(hn::LoadU(du, b + v * kL), hn::Set(du, 0xFFFF0000u)));
    }
    HWY_UNROLL(kRows)
    for (int r = 0; r < kRows; ++r) {
      const V left = hn::Set(d, a[r * lda + 2 * s + 1]);
      HWY_UNROLL(kVectors)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
  HWY_UNROLL(kRows)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(kVectors)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, c + r * ldc + v * kL);
  }
}

template <class T>
using Tile = void (*)(int64_t, const T*, int64_t, const Word<T>*, Accumulator<T>*, int64_t, bool);

// tiles[vectors − 1][rows − 1]
template <class T, size_t... kIndex>
constexpr auto make_tiles(std::index_sequence<kIndex...>) {
  return std::array<Tile<T>, sizeof...(kIndex)>{
      &tile<T, static_cast<int>(kIndex % kTileRows) + 1, static_cast<int>(kIndex / kTileRows) + 1>...};
}
template <size_t... kIndex>
constexpr auto make_widening_tiles(std::index_sequence<kIndex...>) {
  using Widening = void (*)(int64_t, const float*, int64_t, const uint32_t*, float*, int64_t, bool);
  return std::array<Widening, sizeof...(kIndex)>{
      &tile_widening<static_cast<int>(kIndex % kTileRows) + 1, static_cast<int>(kIndex / kTileRows) + 1>...};
}
template <class T>
inline constexpr auto kTiles = make_tiles<T>(std::make_index_sequence<kTileRows * kTileVectors>());
inline constexpr auto kWideningTiles = make_widening_tiles(std::make_index_sequence<kTileRows * kTileVectors>());

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
