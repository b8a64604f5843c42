// The lines of OUT/metrics.jsonl: one JSON object a step, floats in shortest round-trip form.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "actors/train/loss_curve.h"
#include "runtime/base/file.h"

namespace troupe::train {

struct MetricsLine {
  int64_t step = 0;
  double loss = 0;     // nats per token
  int64_t tokens = 0;  // processed so far, all steps
  double tokens_per_second = 0;
  double step_seconds = 0;
  double gradient_norm = 0;
  double learning_rate = 0;
  double mfu = 0;  // model FLOPs per second over the measured peak
  int64_t generation = 0;
  std::optional<double> validation_loss;
  std::optional<double> validation_bits_per_byte;
  // Of a mixture of experts (StepReport).
  std::optional<double> balance_loss = {}, z_loss = {}, expert_load_entropy = {};

  std::string to_json() const;
  friend bool operator==(const MetricsLine&, const MetricsLine&) = default;
};

// The losses that earlier generations of a run have written, each step's from the highest generation, and
// from its last line where that wrote several.
struct LossHistory {
  std::vector<LossPoint> training, validation;
};
// A missing file is an empty history; lines that are not JSON are passed over.
LossHistory read_loss_history(const std::string& path);

}  // namespace troupe::train
