#include "kernels/cpu/gemm_bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Only this region uses the instructions: the rest of the program, and inline functions of headers, stay
// fit for any CPU.
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))), apply_to = function)

namespace troupe::kernels::cpu {
namespace {

constexpr int64_t kWidth = 16 * kBf16TileVectors;

inline __attribute__((always_inline)) __m512bh broadcast_pair(const char* pair) {
  int word;
  __builtin_memcpy(&word, pair, sizeof(word));
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
}

template <int kRows, int kVectors>
void tile(int64_t steps, const void* left_matrix, int64_t lda, const uint32_t* __restrict b, float* __restrict c,
          int64_t ldc, bool start_at_c) {
  constexpr int64_t kAhead = (kRows <= 4 ? 32 : 16) * kWidth;
  const char* a = static_cast<const char*>(left_matrix);
  __m512 sum[kRows][kVectors];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = start_at_c ? _mm512_loadu_ps(c + r * ldc + v * 16) : _mm512_setzero_ps();
    }
  }
  for (int64_t s = 0; s < steps; ++s, b += kWidth) {
    __m512bh right[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      right[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + v * 16));
      __builtin_prefetch(b + kAhead + v * 16);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const __m512bh pair = broadcast_pair(a + (r * lda + 2 * s) * 2);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], pair, right[v]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + r * ldc + v * 16, sum[r][v]);
  }
}

constexpr Bf16Tile kTiles[kBf16TileVectors][kBf16TileRows] = {
    {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>},
    {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>, tile<7, 2>, tile<8, 2>},
    {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>, tile<5, 3>, tile<6, 3>, tile<7, 3>, tile<8, 3>},
};

}  // namespace

int64_t bf16_dot_loop(int64_t rounds, float* sink) {
  constexpr int kChains = 16;
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3F803F80));
  __m512 chain[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) chain[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) chain[i] = _mm512_dpbf16_ps(chain[i], ones, ones);
  }
#pragma unroll
  for (int i = 1; i < kChains; ++i) chain[0] = _mm512_add_ps(chain[0], chain[i]);
  *sink = _mm512_cvtss_f32(chain[0]);
  return rounds * kChains * 64;
}

}  // namespace troupe::kernels::cpu

#pragma clang attribute pop

namespace troupe::kernels::cpu {
Bf16Tile bf16_tile(int rows, int vectors) { return kTiles[vectors - 1][rows - 1]; }
}  // namespace troupe::kernels::cpu

#else

namespace troupe::kernels::cpu {
Bf16Tile bf16_tile(int, int) { return nullptr; }
int64_t bf16_dot_loop(int64_t, float*) { return 0; }
}  // namespace troupe::kernels::cpu

#endif
