// A training run in one process: config, data, trainer, checkpoints and metrics joined. What is seen of
// it goes to an observer; what is kept of it goes to OUT:
//   run.json       resolved config, versions, seed, device
//   metrics.jsonl  a line a step (metrics.h)
//   checkpoints/   (checkpoint/checkpoint.h), each with the tokenizer in it
//   loss.svg       the loss curve, drawn at each validation and at the end
//   generation     how often the run was started
#pragma once
#include <functional>
#include <string>

#include "actors/data/training_data.h"
#include "actors/train/metrics.h"
#include "actors/train/run_config.h"
#include "actors/train/trainer.h"
#include "checkpoint/checkpoint.h"
#include "runtime/base/clock.h"

namespace troupe::train {

struct RunStart {
  std::string config_path, out;
  const RunConfig& config;
  std::string tokenizer, device;
  int64_t parameters = 0;
  int64_t train_tokens = 0, validation_tokens = 0;
  int64_t first_step = 1;  // > 1: resumed
};

struct RunEnd {
  int64_t steps = 0;
  double loss = 0;
  std::optional<double> validation_loss, validation_bits_per_byte;
  double seconds = 0;
  bool interrupted = false;
  std::string checkpoint;  // the last one
};

// Told what happens, on the thread that trains.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual bool stop_requested() = 0;  // polled between steps
  virtual void preparing(int64_t bytes_done, int64_t bytes_total) {}
  virtual void started(const RunStart&) {}
  virtual void stepped(const MetricsLine&, int64_t steps) {}
  virtual void validated(const MetricsLine&) {}
  virtual void saved(const std::string& folder, int64_t step, double seconds) {}
  virtual void warned(const std::string& message) {}
  virtual void ended(const RunEnd&) {}
};

struct RunRequest {
  std::string config_path;
  std::string out;
  bool resume = false;
  std::function<double(kernels::DType)> peak_flops;  // of this device in a compute dtype, per second, for MFU; none: 0
};

// Runs to train.steps or until asked to stop; then saves. Errors: usage (config, data, OUT not empty
// without resume), damaged (no checkpoint can be read), failed (a loss that is not finite, a disk that is
// full: the last checkpoint stands), interrupted (stopped, state saved).
Status run_training(Config& config, const RunRequest& request, kernels::Device& device, FileSystem& files,
                    const Clock& clock, RunObserver& observer);

}  // namespace troupe::train
