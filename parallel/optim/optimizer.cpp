#include "parallel/optim/optimizer.h"

#include <algorithm>

#include "kernels/ops/adamw.h"
#include "kernels/ops/global_norm.h"
#include "kernels/ops/sgd.h"

namespace troupe::parallel {

std::vector<std::string_view> OptimizerOptions::states() const {
  if (kind == OptimizerKind::sgd) return {};
  return {"first_moment", "second_moment"};
}

Optimizer::Optimizer(ParameterSet& parameters, OptimizerOptions options) : options_(options) {
  for (const ParameterBucket* bucket : parameters.buckets()) {
    const Tensor& like = bucket->masters();
    for (size_t i = 0; i < options_.states().size(); ++i)
      states_[bucket].push_back(
          Tensor::zeros(parameters.device(), like.dtype(), like.shape(), kernels::MemoryKind::optimizer));
  }
}

const Tensor& Optimizer::state(const ParameterBucket& bucket, std::string_view name) const {
  const std::vector<std::string_view> names = options_.states();
  const auto which = std::ranges::find(names, name);
  const auto found = states_.find(&bucket);
  TROUPE_CHECK(which != names.end() && found != states_.end(), "the optimizer has no {} of this bucket", name);
  return found->second[static_cast<size_t>(which - names.begin())];
}

void Optimizer::update(ParameterBucket& bucket, int64_t step, double learning_rate, double norm) {
  const double scale = kernels::clip_scale(norm, options_.gradient_clip);
  const Tensor values = bucket.separate_values();
  for (const ParameterBucket::Segment& s : bucket.segments()) {
    const auto part = [&s](const Tensor& piece) { return piece.defined() ? piece.slice(s.begin, s.end) : Tensor(); };
    const double decay = s.parameter->decays() ? options_.weight_decay : 0;
    const Tensor gradient = part(bucket.gradients());
    Tensor masters = part(bucket.masters());
    if (options_.kind == OptimizerKind::sgd) {
      kernels::sgd({.learning_rate = learning_rate, .weight_decay = decay, .gradient_scale = scale}, gradient, masters,
                   part(values));
      continue;
    }
    Tensor first = part(state(bucket, "first_moment")), second = part(state(bucket, "second_moment"));
    kernels::adamw({.learning_rate = learning_rate,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .epsilon = options_.epsilon,
                    .weight_decay = decay,
                    .gradient_scale = scale,
                    .step = step},
                   gradient, masters, first, second, part(values));
  }
}

}  // namespace troupe::parallel
