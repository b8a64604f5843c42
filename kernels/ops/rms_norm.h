// RMSNorm, row by row: y = x / sqrt(mean(x²) + epsilon) · weight.   Zhang & Sennrich 2019, eq. 4.
// A row never sees another row, so the result does not depend on the batch.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct RmsNormKernels {
  // x [rows.., D]; weight [D]; y [rows.., D]; inverse_rms [rows] in accumulator_of(y), or undefined.
  void (*forward)(Device&, const Tensor& x, const Tensor& weight, double epsilon, Tensor& y, Tensor& inverse_rms);
  // dx in x's dtype, dweight [D] in the accumulator's; a target without a tensor is not computed.
  void (*backward)(Device&, const Tensor& x, const Tensor& weight, const Tensor& inverse_rms, const Tensor& dy,
                   GradientTarget dx, GradientTarget dweight);
};

// x [rows.., D] f64, f32 or bf16; weight [D]. Returns x's shape in `output`; statistics are f32 (f64 for f64).
// Per head (QK-norm): x of [B, T, H, d] and weight [d]. Keeps x and 1/rms [rows]; dx adds in place into
// what other users of x have left; dweight sums fixed chunks of rows in order, whatever the threads.
// REQUIRES: last dimension of x equals weight's; f64 does not mix with the others.
Value rms_norm(Tape&, const Value& x, const Value& weight, double epsilon, DType output);

}  // namespace troupe::kernels
