// Trainer: what a step computes, and nothing about files, terminals or signals. A step is a pure function
// of parameters, optimizer state, the ordered global batch and the step's number; how the batch is cut
// into ranks and microbatches changes only the rounding of sums.
#pragma once
#include <memory>
#include <optional>

#include "actors/data/sequence_batch.h"
#include "actors/train/rank_activity.h"
#include "actors/train/train_options.h"
#include "parallel/comm/communicator.h"
#include "runtime/base/stop_check.h"

namespace troupe::train {

struct StepReport {
  int64_t step = 0;
  double loss = 0;           // mean over the step's targets, nats
  int64_t tokens = 0;        // processed by all ranks
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
};

struct ValidationReport {
  double loss = 0;  // summed over the targets, nats
  int64_t targets = 0;
};

// One rank's. All ranks of `data` call step() with the same number of sequences, and hold the same parameters to the
// bit after it: gradients are summed in the order of ranks, and every rank makes the whole update.
class Trainer {
 public:
  // REQUIRES: config.complete() succeeded; options.global_batch is a multiple of the ranks, and a rank's share of the
  // microbatch. Parameters are initialised from options.seed, until `stop` says so: then the trainer is of no use.
  // `device` and `data` outlive it.
  Trainer(parallel::DecoderConfig config, TrainOptions options, parallel::Numerics numerics, kernels::Device& device,
          parallel::Communicator& data, const StopCheck& stop = {});

  // What all ranks' shares hold together, and whether one of them wants to stop. Throws CommunicationError.
  struct Meeting {
    int64_t targets = 0;
    bool stop = false;
  };
  Meeting meet(const data::SequenceBatch& batch, bool stop);

  // The update that makes step completed() + 1. `batch` is this rank's share of the global batch: sequences
  // [rank, rank + 1) · local_batch() of it; `targets` those of the whole. The same report on all ranks.
  // The same error (failed), parameters untouched, on all ranks: the loss or a gradient is not finite; names step, rank
  // and operation. Throws CommunicationError.
  Result<StepReport> step(const data::SequenceBatch& batch, int64_t targets);
  Result<StepReport> step(const data::SequenceBatch& batch) { return step(batch, meet(batch, false).targets); }
  int64_t local_batch() const { return options_.global_batch / data_.size(); }

  // The summed loss of `batch`'s targets and their number, of this rank alone; nothing changes.
  ValidationReport evaluate(const data::SequenceBatch& batch);

  int64_t completed() const { return completed_; }
  void set_completed(int64_t steps) { completed_ = steps; }
  const TrainOptions& options() const { return options_; }
  parallel::Decoder& model() { return *model_; }
  parallel::ParameterSet& parameters() { return *parameters_; }
  parallel::AdamW& optimizer() { return *optimizer_; }
  kernels::Device& device() { return device_; }
  parallel::Communicator& data() { return data_; }
  // Is told the phases of every step; outlives the trainer. Null: nobody is.
  void report_to(RankActivity* activity) { activity_ = activity; }

 private:
  parallel::Batch upload(const data::SequenceBatch& batch, int64_t begin, int64_t end, bool training);
  template <class T>
  std::vector<T> sum_over_ranks(const char* what, std::vector<T> values);
  void sum_gradients();
  struct NotFinite {
    std::string_view what;
    double value = 0;
    int64_t begin = 0, end = 0;  // sequences of the batch to look at
  };
  // What one rank at least has found, as an Error on all, with the operation if a rank can name it.
  Error explain(const data::SequenceBatch& batch, double weight, const std::optional<NotFinite>& found);
  // Runs microbatches [begin, end) again: the first operation, parameter or gradient that is not finite; "" if none is.
  std::string first_non_finite(const data::SequenceBatch& batch, int64_t begin, int64_t end, double weight);

  TrainOptions options_;
  kernels::Device& device_;
  parallel::Communicator& data_;
  std::unique_ptr<parallel::ParameterSet> parameters_;
  std::unique_ptr<parallel::Decoder> model_;
  std::unique_ptr<parallel::AdamW> optimizer_;
  int64_t completed_ = 0;
  RankActivity* activity_ = nullptr;
};

}  // namespace troupe::train
