// One rank's part of a run, told what to do in plans: from which step to which. Where a plan ends, rank 0 stages a
// checkpoint in OUT; to publish it is its teller's business. After which steps to validate, the config says.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "actors/train/run_setup.h"
#include "actors/train/train_messages.h"
#include "actors/train/trainer.h"
#include "runtime/base/clock.h"

namespace troupe::train {

// Told what rank 0 does, on the thread that calls run().
class RankObserver {
 public:
  virtual ~RankObserver() = default;
  virtual void stepped(const MetricsLine&) = 0;
  virtual void staged(const StagedCheckpoint&) = 0;
};

class TrainingRank {
 public:
  // `setup` is what the ranks of a process share; null: it is read here. `device`, `ranks` (the group of all ranks),
  // `files`, `clock` and `trace` (null: none) outlive it. Errors as RunSetup; usage: a batch that does not divide by
  // the ranks; failed: data or tokenizer are not those of the assignment; interrupted: `stop` said so.
  static Result<std::unique_ptr<TrainingRank>> create(const RankAssignment& assignment,
                                                      std::shared_ptr<const RunSetup> setup, kernels::Device& device,
                                                      parallel::Communicator& ranks, FileSystem& files,
                                                      const Clock& clock, TraceSink* trace = nullptr,
                                                      const StopCheck& stop = {});

  // Takes the state of a checkpoint; all ranks the same. Errors: damaged, if it cannot be read to its last byte;
  // interrupted. After an error this is of no use.
  Status load(const std::string& folder, const StopCheck& stop = {});

  // Carries a plan out. Errors (failed): on all ranks, a loss that is not finite; on rank 0, a checkpoint that could
  // not be staged: no other rank waits for that. Throws CommunicationError. REQUIRES: plan.first_step is completed()
  // + 1.
  Result<PlanReport> run(const StepPlan& plan, RankObserver& observer);

  // Ends run() after the step at hand, on all ranks, with the state staged. Any thread; of one rank or of several.
  void request_stop() { stop_requested_ = true; }

  int64_t completed() const { return trainer_->completed(); }
  // What its thread does; any thread may ask.
  const RankActivity& activity() const { return activity_; }
  // What it waits for in collectives, as Communicator::under_way(). Any thread.
  std::string under_way() const { return groups_.under_way(); }
  int64_t parameters() { return setup_->options.model.parameters(); }

 private:
  TrainingRank(const RankAssignment& assignment, std::shared_ptr<const RunSetup> setup, const parallel::Layout& layout,
               kernels::Device& device, parallel::Communicator& ranks, FileSystem& files, const Clock& clock,
               TraceSink* trace, const StopCheck& stop);
  Result<std::optional<MetricsLine>> step();  // none: one of the ranks was told to stop
  data::SequenceBatch read(int64_t begin, int64_t end);
  bool validates_after(int64_t step) const;
  void validate(MetricsLine& line);
  Status stage(RankObserver& observer);

  parallel::Communicator& ranks_;
  const Clock& clock_;
  RankActivity activity_;
  checkpoint::CheckpointStore store_;
  const int64_t generation_;
  const std::string config_;
  const std::shared_ptr<const RunSetup> setup_;
  parallel::MeshGroups groups_;
  std::unique_ptr<Trainer> trainer_;
  double peak_flops_, flops_per_token_;
  int64_t sequences_ = 0;  // consumed by all ranks: the data position
  std::atomic<bool> stop_requested_ = false;
};

}  // namespace troupe::train
