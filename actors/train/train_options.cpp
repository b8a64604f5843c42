#include "actors/train/train_options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace troupe::train {

double LearningRate::at(int64_t step, int64_t steps) const {
  if (step <= warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  const double low = peak * final_fraction;
  const auto progress = [&](int64_t from) {  // 0 just after `from`, 1 at the last step
    return std::clamp(static_cast<double>(step - from) / static_cast<double>(std::max<int64_t>(steps - from, 1)), 0.0,
                      1.0);
  };
  switch (schedule) {
    case Schedule::constant: return peak;
    case Schedule::cosine: return low + (peak - low) * 0.5 * (1 + std::cos(std::numbers::pi * progress(warmup_steps)));
    case Schedule::wsd: break;
  }
  const auto decay_steps = static_cast<int64_t>(std::llround(decay_fraction * static_cast<double>(steps)));
  const int64_t decay_from = std::max(steps - decay_steps, warmup_steps);
  return step <= decay_from ? peak : peak + (low - peak) * progress(decay_from);
}

TrainOptions read_train_options(Config& config) {
  TrainOptions o;
  std::string objective = "pretrain";
  ConfigSection section = config.section("train");
  section.read("steps", o.steps, at_least(1))
      .read("sequence_length", o.sequence_length, at_least(1))
      .read("global_batch", o.global_batch, at_least(1))
      .read("micro_batch", o.micro_batch, at_least(0))
      .read("seed", o.seed)
      .read_choice("objective", objective, {"pretrain"})
      .read("learning_rate", o.learning_rate.peak, above(0))
      .read_choice("schedule", o.learning_rate.schedule,
                   {{"constant", Schedule::constant}, {"cosine", Schedule::cosine}, {"wsd", Schedule::wsd}})
      .read("final_learning_rate_fraction", o.learning_rate.final_fraction, between(0, 1))
      .read("warmup_steps", o.learning_rate.warmup_steps, at_least(0))
      .read("decay_fraction", o.learning_rate.decay_fraction, between(0, 1))
      .read_choice("optimizer", o.optimizer.kind,
                   {{"adamw", parallel::OptimizerKind::adamw}, {"sgd", parallel::OptimizerKind::sgd}})
      .read("weight_decay", o.optimizer.weight_decay, at_least(0))
      .read("beta1", o.optimizer.beta1, at_least(0) & below(1))
      .read("beta2", o.optimizer.beta2, at_least(0) & below(1))
      .read("epsilon", o.optimizer.epsilon, above(0))
      .read("gradient_clip", o.optimizer.gradient_clip, at_least(0))
      .read("label_smoothing", o.label_smoothing, at_least(0) & below(1))
      .read_choice("recompute", o.recompute,
                   {{"none", parallel::Recompute::none},
                    {"attention", parallel::Recompute::attention},
                    {"block", parallel::Recompute::block}})
      .read("validate_every", o.validate_every, at_least(0))
      .read("validation_sequences", o.validation_sequences, at_least(0));
  if (o.micro_batch > 0 && o.global_batch % o.micro_batch != 0) {
    config.reject("train.micro_batch",
                  fmt::format("{} does not divide train.global_batch = {}", o.micro_batch, o.global_batch));
  }
  return o;
}

CheckpointOptions read_checkpoint_options(Config& config) {
  CheckpointOptions o;
  config.section("checkpoint").read("every", o.every, at_least(0)).read("keep", o.keep, at_least(0));
  return o;
}

MetricsOptions read_metrics_options(Config& config) {
  MetricsOptions o;
  config.section("metrics").read("every", o.every, at_least(1));
  return o;
}

}  // namespace troupe::train
