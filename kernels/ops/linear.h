// Linear: y = x · Wᵀ + b.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct LinearKernels {
  // to[n] (+)= sum over rows of x[row, n], in ascending order of rows; `to` f32 (f64 for f64).
  void (*column_sum)(Device&, const Tensor& x, const GradientTarget& to);
  // y[row, n] += bias[n], summed in accumulator_of(y) and rounded once. bias of any floating dtype.
  void (*add_rows)(Device&, const Tensor& bias, Tensor& y);
};

// x [.., K]; weight [N, K]; bias [N] or undefined; all of one floating dtype. Returns [.., N], that dtype.
// Saves x. Sums over K run in ascending order in f32 (f64), so a row does not depend on its batch.
// A weight that its leaf holds packed is used so.
Value linear(Tape&, const Value& x, const Value& weight, const Value& bias = {});

}  // namespace troupe::kernels
