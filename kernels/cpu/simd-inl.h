// What the fast paths share, compiled once per SIMD target: f32 vectors read from and written to f32 and
// bf16 memory, loops over rows of any length, exp, sigmoid and the normal distribution.
// Lanes never mix in element-wise loops, and a tail runs through the same vector code, so an element's
// bits do not depend on where a range was cut.
#if defined(TROUPE_KERNELS_CPU_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_KERNELS_CPU_SIMD_INL_H
#undef TROUPE_KERNELS_CPU_SIMD_INL_H
#else
#define TROUPE_KERNELS_CPU_SIMD_INL_H
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/reference.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using VF = hn::Vec<F>;

HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(F())); }

// How much of a vector a load or store touches: all of it, or the first `count` elements.
struct Whole {};
struct Part {
  int64_t count;
};

HWY_INLINE VF load(Whole, const float* from) { return hn::LoadU(F(), from); }

HWY_INLINE VF load(Whole, const bf16* from) {
  const hn::Rebind<uint16_t, F> half;
  const hn::RebindToUnsigned<F> word;
  const auto bits = hn::PromoteTo(word, hn::LoadU(half, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(F(), hn::ShiftLeft<16>(bits));
}

// Elements past the end read as zero.
template <class T>
HWY_INLINE VF load(Part part, const T* from) {
  HWY_ALIGN T buffer[hn::MaxLanes(F())] = {};
  std::memcpy(buffer, from, static_cast<size_t>(part.count) * sizeof(T));
  return load(Whole{}, buffer);
}

HWY_INLINE void store(Whole, VF value, float* to) { hn::StoreU(value, F(), to); }

// Rounds to nearest even as bf16's constructor does; NaN stays NaN.
HWY_INLINE void store(Whole, VF value, bf16* to) {
  const hn::Rebind<uint16_t, F> half;
  const hn::RebindToUnsigned<F> word;
  const auto bits = hn::BitCast(word, value);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(word, 1));
  const auto rounded = hn::ShiftRight<16>(bits + odd + hn::Set(word, 0x7FFF));
  const auto quiet = hn::Or(high, hn::Set(word, 0x40));
  const auto is_nan = hn::RebindMask(word, hn::IsNaN(value));
  hn::StoreU(hn::TruncateTo(half, hn::IfThenElse(is_nan, quiet, rounded)), half, reinterpret_cast<uint16_t*>(to));
}

template <class T>
HWY_INLINE void store(Part part, VF value, T* to) {
  HWY_ALIGN T buffer[hn::MaxLanes(F())];
  store(Whole{}, value, buffer);
  std::memcpy(to, buffer, static_cast<size_t>(part.count) * sizeof(T));
}

// Writes, or adds to what is there.
template <class P, class T>
HWY_INLINE void store_or_add(P part, VF value, T* to, bool accumulate) {
  store(part, accumulate ? value + load(part, to) : value, to);
}

// Zero in the lanes past the end: for values that are not zero where the input is.
HWY_INLINE VF keep(Whole, VF value) { return value; }
HWY_INLINE VF keep(Part part, VF value) {
  return hn::IfThenElseZero(hn::FirstN(F(), static_cast<size_t>(part.count)), value);
}

// Calls body(i, part, k) for each vector of [0, n): k, a compile-time constant, counts 0, 1, 2, 3 in turn so
// that sums can run in four accumulators. `body` is a lambda marked HWY_ATTR.
template <class Body>
HWY_INLINE void for_vectors(int64_t n, const Body& body) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    body(i, Whole{}, std::integral_constant<int, 0>{});
    body(i + step, Whole{}, std::integral_constant<int, 1>{});
    body(i + 2 * step, Whole{}, std::integral_constant<int, 2>{});
    body(i + 3 * step, Whole{}, std::integral_constant<int, 3>{});
  }
  for (; i + step <= n; i += step) body(i, Whole{}, std::integral_constant<int, 0>{});
  if (i < n) body(i, Part{n - i}, std::integral_constant<int, 0>{});
}

// Four running sums and their total, in one fixed order.
struct Sums {
  VF part[4];
  HWY_INLINE Sums() { part[0] = part[1] = part[2] = part[3] = hn::Zero(F()); }
  HWY_INLINE float total() const { return hn::GetLane(hn::SumOfLanes(F(), (part[0] + part[1]) + (part[2] + part[3]))); }
};

// max(bound, x) and min(bound, x) that hand a NaN in x on, as x86's instructions do in this order.
HWY_INLINE VF at_least(VF bound, VF x) {
#if HWY_TARGET == HWY_EMU128
  return hn::IfThenElse(x < bound, bound, x);
#else
  return hn::Max(bound, x);
#endif
}
HWY_INLINE VF at_most(VF bound, VF x) {
#if HWY_TARGET == HWY_EMU128
  return hn::IfThenElse(x > bound, bound, x);
#else
  return hn::Min(bound, x);
#endif
}

// e^x for x ≤ 88, relative error below 1.5e-7; 0 below -87.7. NaN stays.
HWY_INLINE VF exponential_below_88(VF x) {
  const F f;
  const hn::RebindToSigned<F> i32;
  x = at_least(hn::Set(f, -88.0f), x);
  const VF round = hn::Set(f, 12582912.0f);  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  const VF shifted = hn::MulAdd(x, hn::Set(f, 1.44269504f), round);
  const VF n = shifted - round;
  VF r = hn::NegMulAdd(n, hn::Set(f, 0.693359375f), x);  // ln 2 in two parts: n times the first is exact
  r = hn::NegMulAdd(n, hn::Set(f, -2.12194440e-4f), r);
  // (e^r - 1 - r) / r² on |r| ≤ ln 2 / 2: Chebyshev interpolation, error 1e-8.
  VF p = hn::MulAdd(r, hn::Set(f, 0.0013926200892783f), hn::Set(f, 0.0083632328324640f));
  p = hn::MulAdd(p, r, hn::Set(f, 0.0416665544008172f));
  p = hn::MulAdd(p, r, hn::Set(f, 0.1666657666632542f));
  p = hn::MulAdd(p, r, hn::Set(f, 0.5f));
  p = hn::MulAdd(hn::MulAdd(p, r, hn::Set(f, 1.0f)), r, hn::Set(f, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(i32, shifted)) + hn::Set(i32, 127 << 23);  // 0 (zero) to 254
  return p * hn::BitCast(f, exponent);
}

// 1 / d for 1 ≤ d < infinity, relative error below 2e-7.
HWY_INLINE VF reciprocal(VF d) {
#if HWY_TARGET == HWY_AVX3
  // From 14 bits to 28 by one step of Newton's: a division of 16 lanes takes as long as a whole exponential.
  const VF y = hn::ApproximateReciprocal(d);
  return y * hn::NegMulAdd(d, y, hn::Set(F(), 2.0f));
#else
  return hn::Set(F(), 1.0f) / d;
#endif
}

// 1 / (1 + e^-x), relative error below 5e-7 for x > -88; smaller than 1e-38 below.
HWY_INLINE VF sigmoid(VF x) {
  const VF e = exponential_below_88(at_most(hn::Set(F(), 88.0f), hn::Neg(x)));
  return reciprocal(hn::Set(F(), 1.0f) + e);
}

// Φ(x), the distribution of the standard normal, relative error below 1e-6 down to x = -13, and its density.
struct Normal {
  VF distribution;
  VF density;
};
HWY_INLINE Normal standard_normal(VF x) {
  const F f;
  const VF bell = exponential_below_88(x * x * hn::Set(f, -0.5f));
  // Φ(-|x|) = e^(-x²/2) · erfcx(|x|/√2) / 2, with erfcx(z) = t · Q(t), t = 1 / (1 + 0.3 z): error 2.5e-8.
  const VF z = at_most(hn::Set(f, 1e3f), hn::Abs(x));
  const VF t = reciprocal(hn::MulAdd(z, hn::Set(f, 0.21213203f), hn::Set(f, 1.0f)));
  constexpr float kQ[] = {-0.13067645f, 0.49147720f, -0.52521403f, 0.56345340f, -0.10626226f,
                          0.22023898f,  0.14687037f, 0.17093917f,  0.16917361f};
  VF q = hn::Set(f, kQ[0]);
  for (int i = 1; i < 9; ++i) q = hn::MulAdd(q, t, hn::Set(f, kQ[i]));
  const VF tail = hn::Set(f, 0.5f) * bell * (t * q);
  return {hn::IfThenElse(x < hn::Zero(f), tail, hn::Set(f, 1.0f) - tail), bell * hn::Set(f, 0.39894228f)};
}

// Calls body.operator()<T>() with float or bf16.
template <class Body>
void dispatch_fast(DType type, const Body& body) {
  if (type == DType::f32) {
    body.template operator()<float>();
  } else {
    TROUPE_CHECK(type == DType::bf16, "no SIMD kernel for {}", name_of(type));
    body.template operator()<bf16>();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif  // per-target include guard
