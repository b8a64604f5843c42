// The single-threaded building blocks of matrix products: C[m, n] (+)= A[m, k] · B. B is packed into
// panels; A is read where it lies, row-major with any row stride. For every element of C the sum is one
// chain of fused multiply-adds over k, whatever the sizes (structure: Goto & van de Geijn 2008). bf16 is
// summed in f32: by vdpbf16ps where the CPU has it, else widened; its subnormals may count as 0.
//
// Use, inside HWY_NAMESPACE (included again for each target, after hwy/highway.h):
//   Word<T>* panels = …;  // panel_words<T>(n, k) words, best aligned to 64 bytes
//   pack_panels<T>(b, ldb, BLayout::n_by_k, n, k, panels, kPanelWidth<T> * steps_of<T>(k));  // B[n, k]; once
//   multiply_block<T>(m, n, k, a, lda, panels, kPanelWidth<T> * steps_of<T>(k), c, ldc, start_at_c);
// T is double, float or bf16; c is double or float (Accumulator<T>). Allocates nothing; any size may be 0.
#if defined(TROUPE_KERNELS_CPU_GEMM_MICRO_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_KERNELS_CPU_GEMM_MICRO_INL_H
#undef TROUPE_KERNELS_CPU_GEMM_MICRO_INL_H
#else
#define TROUPE_KERNELS_CPU_GEMM_MICRO_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/gemm_pack-inl.h"
#include "kernels/cpu/gemm_tile-inl.h"
#include "kernels/cpu/isa.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu::HWY_NAMESPACE {

// One tile of at most kTileRows × kPanelWidth; a partial vector goes by way of a buffer.
template <class T, class Left, class TileFunction>
HWY_INLINE void multiply_tile(TileFunction function, int64_t rows, int64_t columns, int64_t steps, const Left* a,
                              int64_t lda, const Word<T>* b, Accumulator<T>* c, int64_t ldc, bool start_at_c) {
  constexpr int64_t kW = kPanelWidth<T>;
  if (columns % kTileLanes<T> == 0) return function(steps, a, lda, b, c, ldc, start_at_c);
  HWY_ALIGN Accumulator<T> buffer[kTileRows * kPanelWidth<T>] = {};
  for (int64_t r = 0; start_at_c && r < rows; ++r) std::copy_n(c + r * ldc, columns, buffer + r * kW);
  function(steps, a, lda, b, buffer, kW, start_at_c);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(buffer + r * kW, columns, c + r * ldc);
}

template <class T>
HWY_INLINE int64_t tile_index(int64_t rows, int64_t columns) {
  return (columns + kTileLanes<T> - 1) / kTileLanes<T> * kTileRows - kTileRows + rows - 1;
}

// bf16 without vdpbf16ps: A, and B where several strips of A use it, are widened a block of k at a time.
inline constexpr int64_t kWidenSteps = 128;

HWY_INLINE void widen_rows(int64_t rows, int64_t k, const bf16* a, int64_t lda, float* wide) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t l = 0; l < k; ++l) {
      wide[r * 2 * kWidenSteps + l] = static_cast<float>(a[r * lda + l]);
    }
    if (k % 2 != 0) wide[r * 2 * kWidenSteps + k] = 0;
  }
}

HWY_INLINE void widen_panel(int64_t steps, const uint32_t* panel, float* wide) {
  constexpr int64_t kW = kPanelWidth<bf16>, kL = kTileLanes<bf16>;
  const AccTag<bf16> d;
  const WordTag<bf16> words;
  for (int64_t s = 0; s < steps; ++s, panel += kW, wide += 2 * kW) {
    for (int64_t i = 0; i < kW; i += kL) {
      const auto pair = hn::LoadU(words, panel + i);
      hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(pair)), d, wide + i);
      hn::StoreU(hn::BitCast(d, hn::And(pair, hn::Set(words, 0xFFFF0000u))), d, wide + kW + i);
    }
  }
}

HWY_NOINLINE inline void multiply_block_widening(int64_t m, int64_t n, int64_t k, const bf16* a, int64_t lda,
                                                 const uint32_t* panels, int64_t panel_stride, float* c, int64_t ldc,
                                                 bool start_at_c) {
  constexpr int64_t kW = kPanelWidth<bf16>;
  HWY_ALIGN float wide_a[kTileRows * 2 * kWidenSteps];
  HWY_ALIGN float wide_b[kW * 2 * kWidenSteps];
  for (int64_t j = 0; j < n; j += kW) {
    const int64_t columns = std::min(kW, n - j);
    for (int64_t from = 0; from < k; from += 2 * kWidenSteps) {
      const int64_t depth = std::min(2 * kWidenSteps, k - from), steps = steps_of<bf16>(depth);
      const uint32_t* b = panels + j / kW * panel_stride + from / 2 * kW;
      if (m > kTileRows) widen_panel(steps, b, wide_b);
      for (int64_t i = 0; i < m; i += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, m - i);
        const auto index = static_cast<size_t>(tile_index<bf16>(rows, columns));
        float* to = c + i * ldc + j;
        widen_rows(rows, depth, a + i * lda + from, lda, wide_a);
        if (m > kTileRows) {
          multiply_tile<float>(kTiles<float>[index], rows, columns, 2 * steps, wide_a, 2 * kWidenSteps, wide_b, to, ldc,
                               start_at_c || from > 0);
        } else {
          multiply_tile<bf16>(kWideningTiles[index], rows, columns, steps, wide_a, 2 * kWidenSteps, b, to, ldc,
                              start_at_c || from > 0);
        }
      }
    }
  }
}

// c[m, n] = (start_at_c ? c : 0) + a[m, k] · B, B[k, n] in panels `panel_stride` words apart.
template <class T>
HWY_NOINLINE void multiply_block(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const Word<T>* panels,
                                 int64_t panel_stride, Accumulator<T>* c, int64_t ldc, bool start_at_c) {
  constexpr int64_t kW = kPanelWidth<T>;
  if (k == 0) {
    for (int64_t i = 0; !start_at_c && i < m; ++i) std::fill_n(c + i * ldc, n, Accumulator<T>(0));
    return;
  }
  if constexpr (std::is_same_v<T, bf16>) {
    if (HWY_TARGET != HWY_AVX3 || !has_bf16_dot()) {
      return multiply_block_widening(m, n, k, a, lda, panels, panel_stride, c, ldc, start_at_c);
    }
  }
  for (int64_t i = 0; i < m; i += kTileRows) {
    const int64_t rows = std::min<int64_t>(kTileRows, m - i);
    for (int64_t j = 0; j < n; j += kW) {
      const int64_t columns = std::min(kW, n - j);
      const Word<T>* b = panels + j / kW * panel_stride;
      Accumulator<T>* to = c + i * ldc + j;
      if constexpr (!std::is_same_v<T, bf16>) {
        multiply_tile<T>(kTiles<T>[static_cast<size_t>(tile_index<T>(rows, columns))], rows, columns, k, a + i * lda,
                         lda, b, to, ldc, start_at_c);
      } else {
        const int vectors = static_cast<int>((columns + kTileLanes<T> - 1) / kTileLanes<T>);
        const Bf16Tile function = bf16_tile(static_cast<int>(rows), vectors);
        if (k > 1) multiply_tile<T>(function, rows, columns, k / 2, a + i * lda, lda, b, to, ldc, start_at_c);
        if (k % 2 != 0) {  // the pair (a[k − 1], 0): past the row's end nothing may be read
          bf16 last[2 * kTileRows] = {};
          for (int64_t r = 0; r < rows; ++r) last[2 * r] = a[(i + r) * lda + k - 1];
          multiply_tile<T>(function, rows, columns, 1, last, 2, b + k / 2 * kW, to, ldc, start_at_c || k > 1);
        }
      }
    }
  }
}

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
