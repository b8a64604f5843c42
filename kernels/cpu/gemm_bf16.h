// Tiles of bf16 products by AVX-512 BF16 (vdpbf16ps), which Highway 1.0.3 lacks. Per step and element:
// c += a[2 s] · b[2 s] + a[2 s + 1] · b[2 s + 1] with the instruction's rounding; subnormals count as 0.
#pragma once
#include <cstdint>

namespace troupe::kernels::cpu {

inline constexpr int kBf16TileRows = 8;
inline constexpr int kBf16TileVectors = 3;  // of 16 columns; panels are 48 wide

// a: pairs (k, k + 1) of bf16, `lda` elements of bf16 from row to row, need not be aligned.
using Bf16Tile = void (*)(int64_t steps, const void* a, int64_t lda, const uint32_t* b, float* c, int64_t ldc,
                          bool start_at_c);

// REQUIRES: has_bf16_dot() (isa.h); 1 ≤ rows ≤ 8, 1 ≤ vectors ≤ 3.
Bf16Tile bf16_tile(int rows, int vectors);

// `rounds` rounds of vdpbf16ps on registers alone; returns the FLOPs done. For measuring the peak (peak.h).
int64_t bf16_dot_loop(int64_t rounds, float* sink);

}  // namespace troupe::kernels::cpu
