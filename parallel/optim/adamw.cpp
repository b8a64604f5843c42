#include "parallel/optim/adamw.h"

#include "kernels/ops/global_norm.h"

namespace troupe::parallel {

AdamW::AdamW(ParameterSet& parameters, AdamWOptions options) : options_(options) {
  for (Parameter* parameter : parameters.all()) {
    const auto moment = [&] {
      return Tensor::zeros(parameters.device(), parameter->master().dtype(), parameter->local_shape(),
                           kernels::MemoryKind::optimizer);
    };
    state_.push_back({parameter, moment(), moment()});
  }
}

double AdamW::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const State& s : state_) {
    if (s.parameter->has_gradient()) gradients.push_back(s.parameter->gradient_accumulator());
  }
  return kernels::global_norm(gradients);
}

void AdamW::step(int64_t step, double learning_rate, double norm) {
  kernels::AdamWStep update{.learning_rate = learning_rate,
                            .beta1 = options_.beta1,
                            .beta2 = options_.beta2,
                            .epsilon = options_.epsilon,
                            .gradient_scale = kernels::clip_scale(norm, options_.gradient_clip),
                            .step = step};
  for (State& s : state_) {
    Parameter& p = *s.parameter;
    if (!p.has_gradient()) p.gradient().tensor.fill_zero();
    update.weight_decay = p.decays() ? options_.weight_decay : 0;
    kernels::adamw(update, p.gradient_accumulator(), p.master(), s.first_moment, s.second_moment,
                   p.separate_compute_copy());
    p.forget_gradient();
  }
}

}  // namespace troupe::parallel
