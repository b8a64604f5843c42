// Activations and their derivatives on f32 vectors, compiled once per SIMD target.
#if defined(TROUPE_KERNELS_CPU_ACTIVATION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TROUPE_KERNELS_CPU_ACTIVATION_INL_H
#undef TROUPE_KERNELS_CPU_ACTIVATION_INL_H
#else
#define TROUPE_KERNELS_CPU_ACTIVATION_INL_H
#endif

#include "kernels/cpu/simd-inl.h"
#include "kernels/ops/gelu.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

struct VectorSlope {
  VF value;
  VF slope;
};

// f(x) and f'(x); what a caller does not use is not computed.
template <Activation kind>
HWY_INLINE VectorSlope activate_vector(VF x) {
  const F f;
  const VF one = hn::Set(f, 1.0f);
  if constexpr (kind == Activation::gelu) {
    const Normal normal = standard_normal(x);
    return {x * normal.distribution, hn::MulAdd(x, normal.density, normal.distribution)};
  } else if constexpr (kind == Activation::gelu_tanh) {
    // (1 + tanh u) / 2 = σ(2u), with 2u = 2 √(2/π) (x + 0.044715 x³)
    const VF squared = x * x;
    const VF s = sigmoid(x * hn::MulAdd(squared, hn::Set(f, 0.071354816f), hn::Set(f, 1.5957691f)));
    const VF du = hn::MulAdd(squared, hn::Set(f, 0.21406445f), hn::Set(f, 1.5957691f));
    return {x * s, hn::MulAdd(x * s * (one - s), du, s)};
  } else if constexpr (kind == Activation::silu) {
    const VF s = sigmoid(x);
    return {x * s, s * hn::MulAdd(x, one - s, one)};
  } else {
    const VF positive = at_least(hn::Zero(f), x);
    return {positive * positive, positive + positive};
  }
}

// Calls body.operator()<kind>() with the kind as a constant.
template <class Body>
void dispatch_activation(Activation kind, const Body& body) {
  switch (kind) {
    case Activation::gelu: return body.template operator()<Activation::gelu>();
    case Activation::gelu_tanh: return body.template operator()<Activation::gelu_tanh>();
    case Activation::silu: return body.template operator()<Activation::silu>();
    case Activation::relu_squared: return body.template operator()<Activation::relu_squared>();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif  // per-target include guard
