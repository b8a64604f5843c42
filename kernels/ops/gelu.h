// Activations applied to each element alone.
//   gelu exact: x · Φ(x);  tanh: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))   Hendrycks & Gimpel 2016
//   silu: x · σ(x)   Elfwing et al. 2017;  relu_squared: max(x, 0)²   So et al. 2021 (Primer)
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

enum class Activation : uint8_t { gelu, gelu_tanh, silu, relu_squared };

struct ActivationKernels {
  // y[i] = f(x[i]). y may be x.
  void (*forward)(Device&, Activation, const Tensor& x, Tensor& y);
  // dx[i] = f'(x[i]) · dy[i]. dx may be x or dy.
  void (*backward)(Device&, Activation, const Tensor& x, const Tensor& dy, Tensor& dx);
};

// x of any shape, f64, f32 or bf16. Returns x's shape and dtype; computed in f32 (f64 for f64), relative error
// below 1e-6 (f32). Keeps x; backward writes over it where no one else holds it.
Value activation(Tape&, Activation, const Value& x);

inline Value gelu(Tape& tape, const Value& x) { return activation(tape, Activation::gelu, x); }
inline Value gelu_tanh(Tape& tape, const Value& x) { return activation(tape, Activation::gelu_tanh, x); }
inline Value silu(Tape& tape, const Value& x) { return activation(tape, Activation::silu, x); }
inline Value relu_squared(Tape& tape, const Value& x) { return activation(tape, Activation::relu_squared, x); }

}  // namespace troupe::kernels
