// What a training run shows while it runs, and how it ends.
#pragma once
#include <optional>
#include <string>

#include "actors/train/metrics.h"
#include "actors/train/run_config.h"

namespace troupe::train {

struct RunStart {
  std::string config_path, out;
  const RunConfig& config;
  std::string tokenizer, device, layout;
  int64_t parameters = 0;
  int64_t train_tokens = 0, validation_tokens = 0;
  int64_t first_step = 1;  // > 1: resumed
  int64_t generation = 0;
};

struct RunEnd {
  int64_t steps = 0;
  double loss = 0;
  double seconds = 0;
  bool interrupted = false;
  std::string checkpoint;  // the last one
};

// Told what happens, on one thread at a time. Once a generation: started; ended at most once.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void started(const RunStart&) {}
  virtual void stepped(const MetricsLine&) {}
  virtual void validated(const MetricsLine&) {}
  virtual void warned(const std::string& message) {}
  virtual void ended(const RunEnd&) {}
};

}  // namespace troupe::train
