// The [train], [checkpoint] and [metrics] sections.
#pragma once
#include <cstdint>
#include <string>

#include "parallel/model/decoder.h"
#include "parallel/optim/optimizer.h"
#include "runtime/base/config.h"

namespace troupe::train {

enum class Schedule : uint8_t { constant, cosine, wsd };

// Rates by step: a linear warm-up, then constant, cosine (Loshchilov & Hutter 2017) or warm-up – stable –
// decay (Hu et al. 2024: linear over the last `decay_fraction` of the steps, but not before the warm-up ends).
struct LearningRate {
  Schedule schedule = Schedule::cosine;
  double peak = 3e-4;
  double final_fraction = 0.1;  // of the peak, at the last step
  int64_t warmup_steps = 0;
  double decay_fraction = 0.2;  // wsd only
  // Of the update that makes step `step` of `steps`, counting from 1.
  double at(int64_t step, int64_t steps) const;
};

struct TrainOptions {
  int64_t steps = 1000;
  int64_t sequence_length = 1024;
  int64_t global_batch = 8;  // sequences per step, whatever the layout
  int64_t micro_batch = 0;   // sequences per rank and microbatch; 0: a rank's whole share at once
  uint64_t seed = 1;
  LearningRate learning_rate;
  parallel::OptimizerOptions optimizer;
  double label_smoothing = 0;
  parallel::Recompute recompute = parallel::Recompute::none;
  int64_t validate_every = 0;        // steps; 0: only at the end
  int64_t validation_sequences = 0;  // at most this many each time; 0: the whole split
};

struct CheckpointOptions {
  int64_t every = 0;  // steps; 0: only at the end and when interrupted
  int64_t keep = 2;   // newest checkpoints kept; 0: all
};

struct MetricsOptions {
  int64_t every = 1;  // steps between lines of metrics.jsonl
};

TrainOptions read_train_options(Config&);
CheckpointOptions read_checkpoint_options(Config&);
MetricsOptions read_metrics_options(Config&);

}  // namespace troupe::train
