// Activations and their derivatives, one element at a time, as the library functions give them.
#pragma once
#include <cmath>
#include <numbers>

#include "kernels/ops/gelu.h"

namespace troupe::kernels::cpu {

template <class A>
struct ValueAndSlope {
  A value;
  A slope;
};

template <class A>
ValueAndSlope<A> activate(Activation kind, A x) {
  constexpr A kInverseSqrt2 = A(1) / std::numbers::sqrt2_v<A>;
  switch (kind) {
    case Activation::gelu: {
      const A phi = A(0.5) * std::erfc(-x * kInverseSqrt2);
      const A density = std::exp(A(-0.5) * x * x) * std::numbers::inv_sqrtpi_v<A> * kInverseSqrt2;
      return {x * phi, phi + x * density};
    }
    case Activation::gelu_tanh: {
      constexpr A kScale = std::numbers::sqrt2_v<A> * std::numbers::inv_sqrtpi_v<A>;
      const A u = kScale * (x + A(0.044715) * x * x * x);
      const A du = kScale * (A(1) + A(3 * 0.044715) * x * x);
      const A sigmoid = A(1) / (A(1) + std::exp(-2 * u));  // (1 + tanh u) / 2, exact in the tail
      return {x * sigmoid, sigmoid + 2 * x * sigmoid * (A(1) - sigmoid) * du};
    }
    case Activation::silu: {
      const A sigmoid = A(1) / (A(1) + std::exp(-x));
      return {x * sigmoid, sigmoid * (A(1) + x * (A(1) - sigmoid))};
    }
    case Activation::relu_squared: {
      const A positive = x > 0 ? x : A(0);
      return {positive * positive, 2 * positive};
    }
  }
  return {};
}

}  // namespace troupe::kernels::cpu
