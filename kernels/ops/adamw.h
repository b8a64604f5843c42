// AdamW: Adam with decoupled weight decay, one fused pass over a tensor.   Loshchilov & Hutter 2019, algorithm 2,
// with epsilon outside the square root of the corrected second moment, as PyTorch does.
#pragma once
#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

struct AdamWStep {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;    // multiplied by the learning rate
  double gradient_scale = 1;  // what clipping multiplies gradients by
  int64_t step = 1;           // from 1; corrects the moments' bias towards zero
};

struct AdamWKernels {
  // See adamw(); `compute` may be undefined.
  void (*step)(Device&, const AdamWStep&, const Tensor& gradient, Tensor& master, Tensor& first_moment,
               Tensor& second_moment, Tensor& compute);
};

// g = gradient · gradient_scale;  m ← β₁m + (1-β₁)g;  v ← β₂v + (1-β₂)g²;
// master ← master · (1 - lr · decay) - lr · m̂ / (√v̂ + ε);  compute ← master, rounded to its dtype.
// All of one shape; gradient, master and moments f32 or all f64; `compute` of any floating dtype, or
// undefined where the master is what is computed with. Each element is computed alone.
void adamw(const AdamWStep&, const Tensor& gradient, Tensor& master, Tensor& first_moment, Tensor& second_moment,
           Tensor compute = {});

}  // namespace troupe::kernels
