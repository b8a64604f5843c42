// Gated units: y = f(gate) · up, with f = silu (SwiGLU) or gelu (GEGLU).   Shazeer 2020, eq. 5–6.
#pragma once
#include "kernels/ops/gelu.h"

namespace troupe::kernels {

struct GatedKernels {
  // y[i] = f(gate[i]) · up[i]. y may be either input.
  void (*forward)(Device&, Activation, const Tensor& gate, const Tensor& up, Tensor& y);
  // dgate = f'(gate) · up · dy, dup = f(gate) · dy. Each output may be any one of the inputs.
  void (*backward)(Device&, Activation, const Tensor& gate, const Tensor& up, const Tensor& dy, Tensor& dgate,
                   Tensor& dup);
};

// gate, up [rows.., F], same shape and dtype (f64, f32 or bf16). Returns the same; computed in f32 (f64 for f64).
// Keeps gate and up; backward writes their gradients over them where no one else holds them.
Value gated(Tape&, Activation, const Value& gate, const Value& up);

inline Value swiglu(Tape& tape, const Value& gate, const Value& up) { return gated(tape, Activation::silu, gate, up); }
// Gemma's GEGLU is the one with Activation::gelu_tanh.
inline Value geglu(Tape& tape, const Value& gate, const Value& up, Activation form = Activation::gelu_tanh) {
  return gated(tape, form, gate, up);
}

}  // namespace troupe::kernels
