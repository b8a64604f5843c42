// Trainer: what a step computes, and nothing about files, terminals or signals. A step is a pure function
// of parameters, optimizer state, the ordered global batch and the step's number; how the batch is cut
// into ranks and microbatches changes only the rounding of sums.
#pragma once
#include <memory>
#include <optional>

#include "actors/data/sequence_batch.h"
#include "actors/train/rank_activity.h"
#include "actors/train/train_options.h"
#include "parallel/mesh/layout.h"
#include "parallel/schedule/step_executor.h"
#include "runtime/base/stop_check.h"

namespace troupe::train {

struct StepReport {
  int64_t step = 0;
  double loss = 0;           // mean over the step's targets, nats
  int64_t tokens = 0;        // processed by all ranks
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  // Of a mixture of experts: the losses of its routers, which are not in `loss`, summed over layers; the entropy of the
  // experts' loads, 1 where all have the same, averaged over layers.
  double balance_loss = 0, z_loss = 0, expert_load_entropy = 0;
};

struct ValidationReport {
  double loss = 0;  // summed over the targets, nats
  int64_t targets = 0;
};

// How ranks share work and state, beside the mesh (parallel/mesh/layout.h).
struct Sharing {
  int zero = 0;
  parallel::Schedule schedule = parallel::Schedule::one_f_one_b;
  int virtual_stages = 1;
  std::optional<parallel::ContextExchange> context_exchange = {};  // none: as attention has it

  static Sharing of(const parallel::Layout& layout) { return {layout.zero, layout.schedule, layout.virtual_stages}; }
};

// One rank's. All ranks of the mesh call step() and evaluate() together. Ranks of one coordinate on the data axis give
// the same sequences.
class Trainer final : private parallel::StepExecutor::Work {
 public:
  // REQUIRES: config.complete() succeeded; the layout is valid for it; options.global_batch is a multiple of the data
  // ranks, and a data rank's share of the microbatch. Parameters are initialised from options.seed, until
  // `stop` says so: then the trainer is of no use. `device` and `groups` outlive it.
  Trainer(parallel::DecoderConfig config, TrainOptions options, parallel::Numerics numerics, kernels::Device& device,
          parallel::MeshGroups& groups, Sharing sharing = {}, const StopCheck& stop = {});

  // What all ranks' shares hold together, and whether one of them wants to stop. Throws CommunicationError.
  struct Meeting {
    int64_t targets = 0;
    bool stop = false;
  };
  Meeting meet(const data::SequenceBatch& batch, bool stop);

  // The update that makes step completed() + 1. `batch` is this data rank's share of the global batch: sequences
  // [rank, rank + 1) · local_batch() of it; `targets` those of the whole. The same report on all ranks.
  // The same error (failed), parameters untouched, on all ranks: the loss or a gradient is not finite; names step, rank
  // and operation. Throws CommunicationError.
  Result<StepReport> step(const data::SequenceBatch& batch, int64_t targets);
  Result<StepReport> step(const data::SequenceBatch& batch) { return step(batch, meet(batch, false).targets); }
  int64_t local_batch() const { return options_.global_batch / mesh().size(parallel::Axis::data); }

  // The summed loss of all data ranks' batches and the number of their targets; nothing changes. They may be of
  // different sizes. Throws CommunicationError.
  ValidationReport evaluate(const data::SequenceBatch& batch);

  int64_t completed() const { return completed_; }
  void set_completed(int64_t steps) { completed_ = steps; }
  const TrainOptions& options() const { return options_; }
  // The parts of the model that this rank has; all of it where nothing but data is shared.
  parallel::Decoder& model() { return *chunks_.front(); }
  const parallel::DecoderConfig& config() const { return config_; }
  parallel::ParameterSet& parameters() const { return *parameters_; }
  // Whether this rank, as every other, has the whole state.
  bool has_whole_state() const {
    return sharing_.zero == 0 && mesh().sizes().stage_ranks() == mesh().sizes().data && mesh().sizes().pipeline == 1 &&
           mesh().sizes().expert * mesh().sizes().expert_tensor == 1;
  }
  // After masters were written: what is computed with follows, on all replicas. Called by all ranks.
  void masters_changed();
  parallel::Optimizer& optimizer() { return *optimizer_; }
  kernels::Device& device() { return device_; }
  parallel::MeshGroups& groups() { return groups_; }
  const parallel::Mesh& mesh() const { return groups_.mesh(); }
  // Called in every step when gradients are summed and the update is not yet made; on all ranks.
  void before_update(std::function<void()> look) { before_update_ = std::move(look); }
  // By layer that this rank has: the tokens of the last step that chose each expert, over all ranks.
  std::map<int, std::vector<int64_t>> expert_loads() const { return executor_->expert_loads(); }
  // In steps from now on tokens go to these experts, instead of those that routers would choose. Null: routers choose.
  void replay_routing(std::shared_ptr<const parallel::Routing> routing) { replayed_ = std::move(routing); }
  // Is told which experts this rank's tokens go to. Null: nobody is.
  void record_routing(std::shared_ptr<parallel::Routing> routing) { recorded_ = std::move(routing); }
  // Is told the phases of every step; outlives the trainer. Null: nobody is.
  void report_to(RankActivity* activity) { activity_ = activity; }

 private:
  struct Running {
    const data::SequenceBatch* batch = nullptr;
    bool training = true, rehearsal = false;
    double weight = 0;
    parallel::StepTotals totals = {};
  };

  parallel::Batch batch(int microbatch) override;
  double weight() const override { return running_.weight; }
  bool totals(const parallel::StepTotals& totals) override;
  void update(parallel::ParameterBucket& bucket) override;
  void doing(const char* what) override;

  parallel::StepPlan make_plan(int microbatches, bool training) const;
  void run(const parallel::StepPlan& plan, const parallel::Program& program, Running running);
  // What the step has found, as an Error on all ranks: with the operation, if one can name it when all run it again.
  Error explain(const data::SequenceBatch& batch);

  const parallel::DecoderConfig config_;
  TrainOptions options_;
  const Sharing sharing_;
  kernels::Device& device_;
  parallel::MeshGroups& groups_;
  std::unique_ptr<parallel::ParameterSet> parameters_;
  std::vector<std::unique_ptr<parallel::Decoder>> chunks_;
  std::unique_ptr<parallel::Optimizer> optimizer_;
  std::unique_ptr<parallel::StepExecutor> executor_;
  parallel::StepPlan plan_;
  parallel::Program program_;
  Running running_;
  double learning_rate_ = 0;
  std::shared_ptr<const parallel::Routing> replayed_;
  std::shared_ptr<parallel::Routing> recorded_;
  std::function<void()> before_update_;
  int64_t completed_ = 0;
  RankActivity* activity_ = nullptr;
  std::optional<Phase> phase_;
};

}  // namespace troupe::train
