// What attention's fast path is made of: a register-tiled product, a transposition and an exponential.
// Every output element is one chain of multiply-adds in ascending order from a known start, so its bits
// depend neither on the tile it falls into nor on the width of a vector.
// Included where the target's attributes are in force, like any Highway -inl header's namespace.
// A word is 32 bits: one f32, or two neighbouring bf16 of the dimension that is summed over.
#if defined(TROUPE_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_ATTENTION_TILE_INL_H_
#undef TROUPE_ATTENTION_TILE_INL_H_
#else
#define TROUPE_ATTENTION_TILE_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention_low.h"
#include "kernels/tensor/dtype.h"

namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {  // each source that includes this has its own copy: their instruction sets differ
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using Vector = hn::Vec<D>;
constexpr int64_t kLanes = HWY_LANES(float);
constexpr int kVectors = kLanes == 16 ? 4 : 2;  // of one row of a register tile
constexpr int kSteps = 6;                       // rows of a register tile: 24 or 12 accumulators
constexpr int64_t kTileRows = kLanes * kVectors;

HWY_INLINE Vector broadcast(const float* word) {
  float value;
  std::memcpy(&value, word, sizeof(value));  // words of bf16 pairs alias other types
  return hn::Set(D(), value);
}

// How a product starts: from zero, from what stands there, or from that times alpha[lane].
enum class Start { zero, add, scale };

// c[r][lane] = start + Σ_k a[r·ar + k·ak] · b[k·ldb + lane], k ascending, for R rows and V vectors of lanes.
template <class Math, int R, int V, Start kStart>
HWY_INLINE void multiply_registers(const float* a, int64_t ar, int64_t ak, const float* b, int64_t ldb, int64_t count,
                                   float* c, int64_t ldc, const float* alpha) {
  const D d;
  Vector sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      if constexpr (kStart == Start::zero) sum[r][v] = hn::Zero(d);
      else sum[r][v] = hn::LoadU(d, c + r * ldc + v * kLanes);
      if constexpr (kStart == Start::scale) sum[r][v] = hn::Mul(sum[r][v], hn::LoadU(d, alpha + v * kLanes));
    }
  }
  for (int64_t k = 0; k < count; ++k) {
    Vector row[V];
    for (int v = 0; v < V; ++v) row[v] = hn::LoadU(d, b + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const Vector factor = broadcast(a + r * ar);
      for (int v = 0; v < V; ++v) sum[r][v] = Math::multiply_add(factor, row[v], sum[r][v]);
    }
    a += ak;
    b += ldb;
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) hn::StoreU(sum[r][v], d, c + r * ldc + v * kLanes);
}

template <class Math, int V, Start kStart>
HWY_NOINLINE void multiply_rows(int64_t rows, const float* a, int64_t ar, int64_t ak, const float* b, int64_t ldb,
                                int64_t count, float* c, int64_t ldc, const float* alpha) {
  int64_t r = 0;
  for (; r + kSteps <= rows; r += kSteps) {
    multiply_registers<Math, kSteps, V, kStart>(a + r * ar, ar, ak, b, ldb, count, c + r * ldc, ldc, alpha);
  }
  if (r + 4 <= rows) {
    multiply_registers<Math, 4, V, kStart>(a + r * ar, ar, ak, b, ldb, count, c + r * ldc, ldc, alpha);
    r += 4;
  }
  if (r + 2 <= rows) {
    multiply_registers<Math, 2, V, kStart>(a + r * ar, ar, ak, b, ldb, count, c + r * ldc, ldc, alpha);
    r += 2;
  }
  if (r < rows) multiply_registers<Math, 1, V, kStart>(a + r * ar, ar, ak, b, ldb, count, c + r * ldc, ldc, alpha);
}

// The product over `vectors` vectors of lanes, kVectors at a time. alpha as long as the lanes.
template <class Math, Start kStart>
HWY_INLINE void multiply(int64_t rows, int64_t vectors, const float* a, int64_t ar, int64_t ak, const float* b,
                         int64_t ldb, int64_t count, float* c, int64_t ldc, const float* alpha = nullptr) {
  for (; vectors >= kVectors; vectors -= kVectors) {
    multiply_rows<Math, kVectors, kStart>(rows, a, ar, ak, b, ldb, count, c, ldc, alpha);
    b += kTileRows;
    c += kTileRows;
    if constexpr (kStart == Start::scale) alpha += kTileRows;
  }
  if constexpr (kVectors > 2) {
    if (vectors == 3) multiply_rows<Math, 3, kStart>(rows, a, ar, ak, b, ldb, count, c, ldc, alpha);
    if (vectors == 2) multiply_rows<Math, 2, kStart>(rows, a, ar, ak, b, ldb, count, c, ldc, alpha);
  }
  if (vectors == 1) multiply_rows<Math, 1, kStart>(rows, a, ar, ak, b, ldb, count, c, ldc, alpha);
}

// One 128-bit block from each of kLanes / 4 rows, every fourth row from `row` on.
HWY_INLINE Vector load_blocks(const float* const* row, int64_t at) {
  const hn::CappedTag<float, 4> block;
#if HWY_TARGET == HWY_AVX3
  const hn::CappedTag<float, 8> half;
  return hn::Combine(D(), hn::Combine(half, hn::LoadU(block, row[12] + at), hn::LoadU(block, row[8] + at)),
                     hn::Combine(half, hn::LoadU(block, row[4] + at), hn::LoadU(block, row[0] + at)));
#elif HWY_TARGET == HWY_AVX2
  return hn::Combine(D(), hn::LoadU(block, row[4] + at), hn::LoadU(block, row[0] + at));
#else
  return hn::LoadU(block, row[0] + at);
#endif
}

// out[c·ld + i] = row[i][c] for c < words and i < vectors · kLanes: pure moves, words keep their bits.
HWY_INLINE void transpose(const float* const* row, int64_t vectors, int64_t words, float* out, int64_t ld) {
  const D d;
  const hn::Repartition<double, D> wide;
  for (int64_t v = 0; v < vectors; ++v) {
    const float* const* rows = row + v * kLanes;
    float* to = out + v * kLanes;
    int64_t c = 0;
    for (; c + 4 <= words; c += 4) {
      const Vector r0 = load_blocks(rows, c), r1 = load_blocks(rows + 1, c);
      const Vector r2 = load_blocks(rows + 2, c), r3 = load_blocks(rows + 3, c);
      const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, low01, low23)), d, to + c * ld);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23)), d, to + (c + 1) * ld);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, high01, high23)), d, to + (c + 2) * ld);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23)), d, to + (c + 3) * ld);
    }
    for (; c < words; ++c)
      for (int64_t i = 0; i < kLanes; ++i) std::memcpy(to + c * ld + i, rows[i] + c, sizeof(float));
  }
}

// 2^x within 2 ulp for x up to a few; exactly 0 below -125 and for -inf, exactly 1 for 0, NaN for NaN.
// Polynomial of degree 5 on [-0.5, 0.5], minimax for the relative error with its value at 0 fixed (9.1e-8).
HWY_INLINE Vector exp2(Vector x) {
  const D d;
  const hn::RebindToSigned<D> i32;
  const Vector magic = hn::Set(d, 12582912.0f);  // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
  const Vector shifted = hn::Add(x, magic);
  const Vector f = hn::Sub(x, hn::Sub(shifted, magic));
  Vector p = hn::MulAdd(f, hn::Set(d, 1.3264727217519037e-3f), hn::Set(d, 9.671512639581905e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5507337431901616e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022242085377873e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.931469775991941e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const Vector scaled = hn::BitCast(d, hn::Add(hn::BitCast(i32, p), hn::ShiftLeft<23>(hn::BitCast(i32, shifted))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -125.0f)), scaled);
}

// f32 words.
struct F32Math {
  using Element = float;  // of a word
  static constexpr int64_t kPerWord = 1;
  static HWY_INLINE Vector multiply_add(Vector a, Vector b, Vector sum) { return hn::MulAdd(a, b, sum); }
};

// words[c] = (a[c], b[c]) for c < count, b below a; the rest up to `padded` is zero. b may be null: zeros.
HWY_INLINE void interleave(const bf16* a, const bf16* b, float* words, int64_t count, int64_t padded) {
  const hn::RebindToUnsigned<D> u32;
  const hn::Rebind<uint16_t, D> u16;
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    auto word = hn::PromoteTo(u32, hn::LoadU(u16, reinterpret_cast<const uint16_t*>(a + c)));
    if (b) {
      const auto high = hn::PromoteTo(u32, hn::LoadU(u16, reinterpret_cast<const uint16_t*>(b + c)));
      word = hn::Or(word, hn::ShiftLeft<16>(high));
    }
    hn::StoreU(hn::BitCast(D(), word), D(), words + c);
  }
  for (; c < padded; ++c) {
    const uint32_t word = c >= count ? 0 : a[c].bits | (b ? static_cast<uint32_t>(b[c].bits) << 16 : 0);
    std::memcpy(words + c, &word, sizeof(word));
  }
}

// A row of `count` elements as f32.
HWY_INLINE void load_row(const float* from, float* to, int64_t count) {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}
HWY_INLINE void load_row(const bf16* from, float* to, int64_t count) {
  const D d;
  const hn::Rebind<hwy::bfloat16_t, D> half;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(from) + i)), d, to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
}
HWY_INLINE void store_elements(Vector from, float* to) { hn::StoreU(from, D(), to); }
// Rounds to nearest even; NaN stays NaN.
HWY_INLINE void store_elements(Vector from, bf16* to) {
  const hn::RebindToUnsigned<D> u32;
  const hn::RebindToSigned<D> i32;
  const hn::Rebind<uint16_t, D> u16;
  const auto word = hn::BitCast(u32, from);
  const auto odd = hn::And(hn::ShiftRight<16>(word), hn::Set(u32, 1));
  const auto rounded = hn::Add(word, hn::Add(odd, hn::Set(u32, 0x7FFF)));
  const auto quiet = hn::Or(word, hn::Set(u32, 0x400000));
  const auto chosen = hn::IfThenElse(hn::RebindMask(u32, hn::Eq(from, from)), rounded, quiet);
  hn::StoreU(hn::DemoteTo(u16, hn::BitCast(i32, hn::ShiftRight<16>(chosen))), u16, reinterpret_cast<uint16_t*>(to));
}

HWY_INLINE void store_low(Vector value, const bf16* stored, uint8_t* to) {
  const hn::RebindToUnsigned<D> u32;
  const hn::RebindToSigned<D> i32;
  const hn::Rebind<uint16_t, D> u16;
  const hn::Rebind<uint8_t, D> u8;
  const auto high = hn::ShiftLeft<16>(hn::PromoteTo(u32, hn::LoadU(u16, reinterpret_cast<const uint16_t*>(stored))));
  const auto distance = hn::Add(hn::Sub(hn::BitCast(u32, value), high), hn::Set(u32, 0x8000));
  hn::StoreU(hn::DemoteTo(u8, hn::BitCast(i32, hn::ShiftRight<8>(distance))), u8, to);  // saturates
}
HWY_INLINE Vector load_with_low(const bf16* stored, const uint8_t* low) {
  const hn::RebindToUnsigned<D> u32;
  const hn::Rebind<uint16_t, D> u16;
  const hn::Rebind<uint8_t, D> u8;
  const auto high = hn::ShiftLeft<16>(hn::PromoteTo(u32, hn::LoadU(u16, reinterpret_cast<const uint16_t*>(stored))));
  const auto distance = hn::ShiftLeft<8>(hn::PromoteTo(u32, hn::LoadU(u8, low)));
  return hn::BitCast(D(), hn::Add(hn::Add(high, distance), hn::Set(u32, 0x80u - 0x8000u)));
}
HWY_INLINE void store_low(Vector, const float*, uint8_t*) {}
HWY_INLINE Vector load_with_low(const float* stored, const uint8_t*) { return hn::LoadU(D(), stored); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu

#endif
