// Trainer: what a step computes, and nothing about files, terminals or signals. A step is a pure function
// of parameters, optimizer state, the ordered global batch and the step's number; how the batch is cut
// into microbatches changes only the rounding of sums.
#pragma once
#include <memory>

#include "actors/data/sequence_batch.h"
#include "actors/train/train_options.h"

namespace troupe::train {

struct StepReport {
  int64_t step = 0;
  double loss = 0;           // mean over the step's targets, nats
  int64_t tokens = 0;        // processed
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
};

struct ValidationReport {
  double loss = 0;  // summed over the targets, nats
  int64_t targets = 0;
};

class Trainer {
 public:
  // REQUIRES: config.complete() succeeded; the microbatch divides the global batch. Parameters are initialised from
  // options.seed.
  Trainer(parallel::DecoderConfig config, TrainOptions options, parallel::Numerics numerics, kernels::Device& device);

  // The update that makes step completed() + 1 from its global batch (options.global_batch sequences).
  // Error (failed), parameters untouched: the loss or a gradient is not finite; names step and operation.
  Result<StepReport> step(const data::SequenceBatch& batch);

  // The summed loss of `batch`'s targets and their number; nothing changes.
  ValidationReport evaluate(const data::SequenceBatch& batch);

  int64_t completed() const { return completed_; }
  void set_completed(int64_t steps) { completed_ = steps; }
  const TrainOptions& options() const { return options_; }
  parallel::Decoder& model() { return *model_; }
  parallel::ParameterSet& parameters() { return *parameters_; }
  parallel::AdamW& optimizer() { return *optimizer_; }
  kernels::Device& device() { return device_; }

 private:
  parallel::Batch upload(const data::SequenceBatch& batch, int64_t begin, int64_t end, bool training);
  // Runs microbatches [begin, end) again: the first operation, parameter or gradient that is not finite.
  std::string first_non_finite(const data::SequenceBatch& batch, int64_t begin, int64_t end, double weight);

  TrainOptions options_;
  kernels::Device& device_;
  std::unique_ptr<parallel::ParameterSet> parameters_;
  std::unique_ptr<parallel::Decoder> model_;
  std::unique_ptr<parallel::AdamW> optimizer_;
  int64_t completed_ = 0;
};

}  // namespace troupe::train
