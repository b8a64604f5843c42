// AdamW over a model's parameters, with clipping by the global norm. Matrices decay, vectors do not.
// State: two moments of 4 bytes (f64: 8) per element, beside the master.
#pragma once
#include <vector>

#include "kernels/ops/adamw.h"
#include "parallel/model/parameter.h"

namespace troupe::parallel {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;   // of matrices
  double gradient_clip = 1.0;  // largest global norm; 0: no clipping
};

class AdamW {
 public:
  // State starts at zero. `parameters` outlives the optimizer.
  AdamW(ParameterSet& parameters, AdamWOptions options);

  // The global norm of the gradients at hand, every parameter once; not finite if an element is not.
  double gradient_norm() const;

  // One update with the gradients at hand, scaled so that `norm` becomes at most gradient_clip; then
  // forgets the gradients. `step` counts from 1. A parameter without a gradient counts as zero gradient.
  void step(int64_t step, double learning_rate, double norm);

  struct State {
    Parameter* parameter;
    Tensor first_moment, second_moment;  // as the master
  };
  std::vector<State>& state() { return state_; }
  const AdamWOptions& options() const { return options_; }

 private:
  AdamWOptions options_;
  std::vector<State> state_;
};

}  // namespace troupe::parallel
