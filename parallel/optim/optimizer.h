// Optimizers over a model's parameters, with clipping by the global norm. Matrices decay, vectors do not. They work on
// buckets, of which each replica has a piece (ZeRO): update and state are of this rank's pieces.
#pragma once
#include <map>
#include <string_view>
#include <vector>

#include "parallel/model/parameter_set.h"

namespace troupe::parallel {

enum class OptimizerKind : uint8_t {
  adamw,  // state: two moments of 4 bytes (f64: 8) per element, beside the master
  sgd,    // no state
};

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double beta1 = 0.9;  // these three: adamw
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;   // of matrices
  double gradient_clip = 1.0;  // largest global norm; 0: no clipping

  // What is kept of every parameter, in the order of a checkpoint: "first_moment", "second_moment".
  std::vector<std::string_view> states() const;
};

class Optimizer {
 public:
  // State starts at zero. `parameters` outlives the optimizer.
  Optimizer(ParameterSet& parameters, OptimizerOptions options);

  // One update of a bucket's masters with its gradients, scaled so that the global `norm` becomes at most
  // gradient_clip. `step` counts from 1. REQUIRES: the gradients are reduced.
  void update(ParameterBucket& bucket, int64_t step, double learning_rate, double norm);

  // Of the bucket's piece, as its masters. REQUIRES: a bucket of the parameters; one of options().states().
  const Tensor& state(const ParameterBucket& bucket, std::string_view name) const;
  const OptimizerOptions& options() const { return options_; }

 private:
  OptimizerOptions options_;
  std::map<const ParameterBucket*, std::vector<Tensor>> states_;  // each as options_.states()
};

}  // namespace troupe::parallel
