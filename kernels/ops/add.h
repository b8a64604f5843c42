// Residual sum: z = x + y. The residual stream x may be wider than the branch y (f32 while computing in
// bf16); the sum has the stream's dtype.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct AddKernels {
  // z[i] = x[i] + y[i], rounded once to z's dtype (x's). z may be x.
  void (*forward)(Device&, const Tensor& x, const Tensor& y, Tensor& z);
};

// x [.., D], floating point; y, same shape, any floating dtype. Returns x's shape and dtype.
// Keeps nothing. Backward hands dz on: shared where the dtypes agree, converted for y where not.
Value add(Tape&, const Value& x, const Value& y);

// add() on x's tape.
Value operator+(const Value& x, const Value& y);

}  // namespace troupe::kernels
