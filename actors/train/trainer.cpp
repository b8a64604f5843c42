#include "actors/train/trainer.h"

#include <cmath>
#include <numeric>

#include "actors/train/microbatch.h"
#include "kernels/ops/global_norm.h"
#include "parallel/comm/agreement.h"
#include "parallel/schedule/layer_division.h"

namespace troupe::train {

using kernels::MemoryKind;
using kernels::Tensor;
using parallel::Axis;
using parallel::Group;

namespace {

template <class T>
std::vector<T> sum_over(parallel::Communicator& group, kernels::Device& device, const std::vector<T>& values) {
  if (group.size() == 1) return values;
  const Tensor sums = Tensor::from<T>(device, values, {static_cast<int64_t>(values.size())}, MemoryKind::buffers);
  group.all_reduce(sums).wait();
  return sums.template to_host<T>();
}

}  // namespace

Trainer::Trainer(parallel::DecoderConfig config, TrainOptions options, parallel::Numerics numerics,
                 kernels::Device& device, parallel::MeshGroups& groups, Sharing sharing, const StopCheck& stop)
    : config_(std::move(config)), options_(options), sharing_(sharing), device_(device), groups_(groups) {
  const int data = mesh().size(Axis::data);
  TROUPE_CHECK(options_.global_batch % data == 0, "a global batch of {} for {} data ranks", options_.global_batch,
               data);
  if (options_.micro_batch == 0) options_.micro_batch = local_batch();
  TROUPE_CHECK(options_.micro_batch > 0 && local_batch() % options_.micro_batch == 0,
               "microbatches of {} in a rank's batch of {}", options_.micro_batch, local_batch());
  parameters_ = std::make_unique<parallel::ParameterSet>(groups, device, numerics, true, sharing.zero);
  plan_ = make_plan(static_cast<int>(local_batch() / options_.micro_batch), true);
  std::vector<parallel::Decoder*> parts;
  for (int v = 0; v < sharing.virtual_stages; ++v) {
    const auto [first, last] = plan_.units_of(plan_.pipeline().chunk(mesh().rank(Axis::pipeline), v));
    chunks_.push_back(
        std::make_unique<parallel::Decoder>(config_, *parameters_, parallel::UnitRange{.first = first, .last = last}));
    parts.push_back(chunks_.back().get());
  }
  plan_ = make_plan(plan_.microbatches, true);  // now with this rank's buckets
  program_ = parallel::instructions(plan_, mesh().rank());
  optimizer_ = std::make_unique<parallel::Optimizer>(*parameters_, options.optimizer);
  executor_ = std::make_unique<parallel::StepExecutor>(parts, *parameters_, options.recompute);
  for (parallel::Parameter* parameter : parameters_->all()) {
    if (is_stopped(stop)) break;
    parameter->initialize(options_.seed);
  }
}

parallel::StepPlan Trainer::make_plan(int microbatches, bool training) const {
  parallel::StepPlan plan;
  plan.mesh = mesh().sizes();
  plan.schedule = sharing_.schedule;
  plan.virtual_stages = sharing_.virtual_stages;
  plan.microbatches = microbatches;
  plan.zero = sharing_.zero;
  plan.recompute = options_.recompute;
  plan.training = training;
  const int64_t rank_tokens = MicrobatchLayout(mesh(), options_.sequence_length).tokens_between_layers();
  plan.activation_elements = options_.micro_batch * rank_tokens * config_.width;
  plan.blocks = parallel::divide_layers(static_cast<int>(config_.layers), plan.mesh.pipeline, plan.virtual_stages,
                                        parallel::edge_work(config_, options_.sequence_length));
  plan.units.resize(static_cast<size_t>(config_.layers) + 2);
  if (config_.tied) plan.tied.emplace();
  for (size_t unit = 0; unit < plan.units.size(); ++unit) {
    if (unit > 0 && unit + 1 < plan.units.size() && config_.has_experts(static_cast<int64_t>(unit) - 1)) {
      plan.units[unit].balanced_experts = static_cast<int>(config_.experts.count);
      plan.units[unit].add_expert_exchange(training && config_.experts.balance_loss > 0);
    }
    for (const parallel::ParameterBucket* b : parameters_->buckets(static_cast<int>(unit))) {
      const parallel::Bucket bucket{.group = b->group(), .elements = b->elements()};
      if (b->tied()) plan.tied = bucket;
      else plan.units[unit].buckets.push_back(bucket);
    }
  }
  return plan;
}

parallel::Batch Trainer::batch(int microbatch) {
  const int64_t begin = microbatch * options_.micro_batch;
  parallel::Batch batch = upload(*running_.batch, begin, begin + options_.micro_batch,
                                 MicrobatchLayout(mesh(), options_.sequence_length), device_);
  batch.seed = options_.seed;
  batch.step = static_cast<uint64_t>(completed_);
  batch.training = running_.training;
  batch.sequences_in_step = options_.global_batch;
  batch.tokens_in_step = options_.global_batch * options_.sequence_length;
  if (running_.training) {
    batch.replayed = replayed_;
    batch.recorded = recorded_;
  }
  batch.context_exchange = sharing_.context_exchange;
  batch.label_smoothing = static_cast<float>(options_.label_smoothing);
  return batch;
}

Trainer::Meeting Trainer::meet(const data::SequenceBatch& batch, bool stop) {
  const Phase phase(activity_, "count targets");
  // Ranks that differ on data alone have other sequences.
  const bool first =
      mesh().rank(Axis::pipeline) == 0 && mesh().rank(Axis::context) == 0 && mesh().rank(Axis::tensor) == 0;
  const std::vector<int64_t> all =
      sum_over<int64_t>(groups_[Group::world], device_, {first ? batch.target_count : 0, stop ? 1 : 0});
  return {all[0], all[1] > 0};
}

void Trainer::run(const parallel::StepPlan& plan, const parallel::Program& program, Running running) {
  running_ = running;
  executor_->run(plan, program, *this);
  phase_.reset();
}

void Trainer::doing(const char* what) {
  if (!running_.training) return;  // whoever asks for a loss says what for
  phase_.reset();
  phase_.emplace(activity_, what);
}

bool Trainer::totals(const parallel::StepTotals& totals) {
  running_.totals = totals;
  if (!running_.training || running_.rehearsal || !totals.finite() || !std::isfinite(totals.squared_norm)) return false;
  if (before_update_) before_update_();
  return true;
}

void Trainer::update(parallel::ParameterBucket& bucket) {
  optimizer_->update(bucket, completed_ + 1, learning_rate_, std::sqrt(running_.totals.squared_norm));
}

Result<StepReport> Trainer::step(const data::SequenceBatch& batch, int64_t targets) {
  const int64_t sequences = batch.size();
  TROUPE_CHECK(sequences == local_batch(), "a rank's batch of {} sequences, not {}", sequences, local_batch());
  StepReport report;
  report.step = completed_ + 1;
  report.tokens = options_.global_batch * batch.sequence_length;
  report.learning_rate = learning_rate_ = options_.learning_rate.at(report.step, options_.steps);
  run(plan_, program_, {.batch = &batch, .weight = targets > 0 ? 1.0 / static_cast<double>(targets) : 0});
  const parallel::StepTotals& found = running_.totals;
  report.loss = found.loss * running_.weight;
  report.gradient_norm = std::sqrt(found.squared_norm);
  report.balance_loss = found.balance_loss;
  report.z_loss = found.z_loss;
  if (config_.expert_layers() > 0)
    report.expert_load_entropy = found.load_entropy / static_cast<double>(config_.expert_layers());
  if (!found.finite() || !std::isfinite(report.gradient_norm)) return explain(batch);
  completed_ = report.step;
  return report;
}

void Trainer::masters_changed() {
  for (parallel::ParameterBucket* b : parameters_->buckets()) b->masters_changed();
}

Error Trainer::explain(const data::SequenceBatch& batch) {
  const parallel::StepTotals found = running_.totals;
  std::string where;
  const auto look = [&where](const std::string& what, const Tensor& tensor) {
    if (where.empty() && kernels::is_float(tensor.dtype()) && !std::isfinite(kernels::sum_of_squares(tensor)))
      where = what;
  };
  for (const parallel::ParameterBucket* b : parameters_->buckets()) {
    for (const parallel::ParameterBucket::Segment& s : b->segments())
      look(fmt::format("the parameter {}", s.parameter->name()), b->masters().slice(s.begin, s.end));
  }
  executor_->observe(look);
  run(plan_, program_, {.batch = &batch, .rehearsal = true, .weight = running_.weight});
  executor_->observe({});
  const std::string what = found.finite() ? fmt::format("gradient norm is {}", std::sqrt(found.squared_norm))
                                          : fmt::format("loss is {}", found.loss * running_.weight);
  const Status here = failed("step {}: the {}; first not finite in {}{}", completed_ + 1, what,
                             where.empty() ? "no operation when run again" : where,
                             mesh().world_size() > 1 ? fmt::format(" on rank {}", mesh().rank()) : std::string());
  const Phase phase(activity_, "agreement");
  return parallel::agree(groups_[Group::world], device_, here, where.empty() ? 0 : 1).error();
}

ValidationReport Trainer::evaluate(const data::SequenceBatch& batch) {
  // All data ranks take as many passes: sequences without targets fill them up.
  parallel::Communicator& world = groups_[Group::world];
  const int64_t micro = options_.micro_batch;
  int64_t passes = (batch.size() + micro - 1) / micro;
  if (world.size() > 1) {
    const Tensor most = Tensor::from<int64_t>(device_, std::vector<int64_t>{passes}, {1}, MemoryKind::buffers);
    world.all_reduce(most, parallel::Reduction::maximum).wait();
    passes = most.to_host<int64_t>()[0];
  }
  ValidationReport report;
  report.targets = meet(batch, false).targets;
  if (passes == 0) return report;
  const parallel::StepPlan plan = make_plan(static_cast<int>(passes), false);
  run(plan, parallel::instructions(plan, mesh().rank()), {.batch = &batch, .training = false});
  report.loss = running_.totals.loss;
  return report;
}

}  // namespace troupe::train
