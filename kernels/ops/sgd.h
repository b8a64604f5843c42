// Stochastic gradient descent with decoupled weight decay, one fused pass over a tensor. Without momentum it keeps no
// state: every update is as large as its gradient, which is why it finds what AdamW, blind to a gradient's scale,
// hides.
#pragma once
#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

struct SgdStep {
  double learning_rate = 0;
  double weight_decay = 0;    // multiplied by the learning rate
  double gradient_scale = 1;  // what clipping multiplies gradients by
};

struct SgdKernels {
  // See sgd(); `compute` may be undefined.
  void (*step)(Device&, const SgdStep&, const Tensor& gradient, Tensor& master, Tensor& compute);
};

// master ← master · (1 - lr · decay) - lr · gradient · gradient_scale;  compute ← master, rounded to its dtype.
// Both f32 or both f64, of one element count; `compute` of any floating dtype, or undefined where the master is what is
// computed with.
void sgd(const SgdStep&, const Tensor& gradient, Tensor& master, Tensor compute = {});

}  // namespace troupe::kernels
