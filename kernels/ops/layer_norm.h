// LayerNorm, row by row: y = (x - mean) / sqrt(variance + epsilon) · weight + bias, variance over D (not
// D - 1).   Ba, Kiros & Hinton 2016, eq. 3. A row never sees another row.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct LayerNormKernels {
  // x, y [rows.., D]; weight, bias [D] (bias may be undefined); mean, inverse_deviation [rows] in
  // accumulator_of(y), both or neither defined.
  void (*forward)(Device&, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon, Tensor& y,
                  Tensor& mean, Tensor& inverse_deviation);
  // dx in x's dtype, dweight and dbias [D] in the accumulator's; a target without a tensor is not computed.
  void (*backward)(Device&, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& inverse_deviation,
                   const Tensor& dy, GradientTarget dx, GradientTarget dweight, GradientTarget dbias);
};

// x [rows.., D] f64, f32 or bf16; weight [D]; bias [D] or an undefined value. Returns x's shape in `output`;
// statistics are f32 (f64 for f64). Keeps x, mean and 1/deviation [rows]; dx adds in place; dweight and
// dbias sum fixed chunks of rows in order, whatever the threads.
// REQUIRES: last dimension of x equals weight's and bias's; f64 does not mix with the others.
Value layer_norm(Tape&, const Value& x, const Value& weight, const Value& bias, double epsilon, DType output);

}  // namespace troupe::kernels
