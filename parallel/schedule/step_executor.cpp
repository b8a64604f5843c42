#include "parallel/schedule/step_executor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace troupe::parallel {

using kernels::MemoryKind;

namespace {

double sum_of(const Tensor& losses) {
  const std::vector<double> values = losses.to_host<double>();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// The gradient of the mean loss with respect to every token's loss.
Tensor filled(Device& device, DType dtype, int64_t rows, double weight) {
  const auto count = static_cast<size_t>(rows);
  if (dtype == DType::f64) return Tensor::from<double>(device, std::vector<double>(count, weight), {rows});
  return Tensor::from<float>(device, std::vector<float>(count, static_cast<float>(weight)), {rows});
}

const char* activity_of(const Instruction& i) {
  switch (i.action) {
    case Action::forward: return "forward";
    case Action::backward: return "backward";
    case Action::reduce_gradients:
    case Action::sum_tied_gradients: return "gradient all-reduce";
    case Action::sum_expert_loads:
    case Action::sum_totals: return "totals";
    case Action::update: return "optimizer";
    case Action::gather_parameters:
    case Action::release_parameters: return "parameters";
    default: return "pipeline";
  }
}

}  // namespace

StepExecutor::StepExecutor(std::span<Decoder* const> chunks, ParameterSet& parameters, Recompute recompute)
    : chunks_(chunks.begin(), chunks.end()), parameters_(parameters), recompute_(recompute) {}

void StepExecutor::run(const StepPlan& plan, const Program& program, Work& work) {
  flights_.clear();
  under_way_.clear();
  loss_ = 0;
  found_ = {};
  not_finite_ = false;
  updates_ = true;
  for (ParameterBucket* b : parameters_.buckets()) b->forget_gradients();
  const char* now = nullptr;
  for (const Instruction& i : program) {
    if (const char* what = activity_of(i); what != now) work.doing(now = what);
    if (i.phase == Phase::start) {
      start(i, plan);
      continue;
    }
    if (i.phase == Phase::finish) {
      finish(i, work);
      continue;
    }
    switch (i.action) {
      case Action::forward: forward(i, plan, work); break;
      case Action::backward: backward(i, plan, work); break;
      case Action::release_parameters:
        for (ParameterBucket* b : parameters_.buckets(i.unit)) b->release();
        break;
      case Action::update:
        if (!updates_) break;
        for (ParameterBucket* b : parameters_.buckets(i.unit)) work.update(*b);
        if (MixtureOfExperts* e = experts(i.unit)) e->router().balance(found_.layers.at(i.unit - 1).loads);
        break;
      default: break;  // inside: the layers' own
    }
  }
  for (ParameterBucket* b : parameters_.buckets()) b->forget_gradients();
  TROUPE_CHECK(under_way_.empty() && flights_.empty(), "a program leaves {} operations and {} microbatches behind",
               under_way_.size(), flights_.size());
}

void StepExecutor::land(const Instruction& i) {
  const auto landed = flights_.extract({i.microbatch, i.virtual_stage});
  if (landed && landed.mapped().batch.router) found_.add(*landed.mapped().batch.router);
}

MixtureOfExperts* StepExecutor::experts(int unit) const {
  for (const Decoder* chunk : chunks_) {
    if (MixtureOfExperts* found = chunk->experts(unit)) return found;
  }
  return nullptr;
}

Tensor StepExecutor::local_loads() const {
  std::vector<int64_t> loads;
  for (const auto& [layer, found] : found_.layers) loads.insert(loads.end(), found.loads.begin(), found.loads.end());
  return Tensor::from<int64_t>(parameters_.device(), loads, {static_cast<int64_t>(loads.size())}, MemoryKind::buffers);
}

void StepExecutor::set_loads(const Tensor& all) {
  const std::vector<int64_t> loads = all.to_host<int64_t>();
  auto next = loads.begin();
  for (auto& [layer, found] : found_.layers) {
    const auto end = next + static_cast<std::ptrdiff_t>(found.loads.size());
    found.loads.assign(next, end);
    next = end;
  }
}

std::map<int, std::vector<int64_t>> StepExecutor::expert_loads() const {
  std::map<int, std::vector<int64_t>> loads;
  for (const auto& [layer, found] : found_.layers) loads[layer] = found.loads;
  return loads;
}

// In the order of StepTotals.
Tensor StepExecutor::local_totals(bool training) const {
  double balance = 0, z = 0, entropy = 0;
  for (const auto& [layer, found] : found_.layers) {
    balance += found.balance_loss;
    z += found.z_loss;
    // All ranks of the stage have the same loads: one of them counts.
    if (training && parameters_.groups()[Group::stage].rank() == 0) entropy += load_entropy(found.loads);
  }
  const std::vector<double> mine{
      loss_, training ? parameters_.squared_gradient_norm() : 0, balance, z, entropy, not_finite_ ? 1.0 : 0.0};
  return Tensor::from<double>(parameters_.device(), mine, {6}, MemoryKind::buffers);
}

void StepExecutor::forward(const Instruction& i, const StepPlan& plan, Work& work) {
  const Decoder& chunk = *chunks_[static_cast<size_t>(i.virtual_stage)];
  Flight& f = flight(i);
  if (i.unit == chunk.units().first) f.batch = chunk.prepare(work.batch(i.microbatch));
  UnitRun& run = f.units[i.unit];
  run.tape = std::make_unique<Tape>(parameters_.device(), plan.training ? Tape::Mode::record : Tape::Mode::no_gradient);
  if (observer_) run.tape->observe(observer_);
  if (i.unit > 0) {
    const bool first = i.unit == chunk.units().first;
    const Tensor x = std::exchange(first ? f.arrived : f.leaving, {});
    run.input =
        run.tape->input(x.reshape({f.batch.tokens.dim(0), f.batch.shard_positions.dim(1), chunk.config().width}));
  }
  run.output = chunk.run(i.unit, *run.tape, run.input, f.batch, recompute_);
  if (i.unit == plan.last_unit()) {
    const double sum = sum_of(run.output.tensor());
    not_finite_ = not_finite_ || !std::isfinite(sum);
    // Every tensor rank has the same losses: one of them counts.
    if (parameters_.mesh().rank(Axis::tensor) == 0) loss_ += sum;
  } else {
    f.leaving = run.output.tensor();
  }
  if (plan.training) return;
  f.units.erase(i.unit);
  if (i.unit == plan.last_unit()) land(i);
}

void StepExecutor::backward(const Instruction& i, const StepPlan& plan, Work& work) {
  const Decoder& chunk = *chunks_[static_cast<size_t>(i.virtual_stage)];
  Flight& f = flight(i);
  UnitRun run = std::move(f.units.at(i.unit));
  f.units.erase(i.unit);
  Tensor gradient;
  if (i.unit == plan.last_unit()) {
    gradient = filled(parameters_.device(), run.output.dtype(), run.output.tensor().elements(), work.weight());
  } else {
    gradient = std::exchange(i.unit == chunk.units().last ? f.gradient_arrived : f.gradient, {});
  }
  run.tape->backward(std::span(&run.output, 1), std::span(&gradient, 1), i.part);
  if (i.unit > 0) f.gradient = run.tape->gradient(run.input);
  if (i.unit == 0) land(i);
}

ParameterBucket& StepExecutor::bucket(const Instruction& i) const {
  return *parameters_.buckets(i.unit)[static_cast<size_t>(i.bucket)];
}

void StepExecutor::start(const Instruction& i, const StepPlan& plan) {
  Communicator& group = parameters_.groups()[i.group];
  UnderWay operation{i, {}, {}};
  switch (i.action) {
    case Action::send_activation:
      operation.tensor = std::exchange(flight(i).leaving, {});
      operation.pending = group.send(operation.tensor, i.peer, i.tag);
      if (!plan.training) land(i);
      break;
    case Action::send_gradient:
      operation.tensor = std::exchange(flight(i).gradient, {});
      operation.pending = group.send(operation.tensor, i.peer, i.tag);
      land(i);
      break;
    case Action::receive_activation:
    case Action::receive_gradient:
      operation.tensor =
          Tensor::empty(parameters_.device(), parameters_.numerics().residual, {plan.activation_elements});
      operation.pending = group.receive(operation.tensor, i.peer, i.tag);
      break;
    case Action::gather_parameters: operation.pending = bucket(i).start_gather(); break;
    case Action::reduce_gradients:
      observe_gradients(bucket(i));
      operation.pending = bucket(i).start_reduction();
      break;
    case Action::sum_tied_gradients: {
      complete_gradients();
      for (ParameterBucket* b : parameters_.buckets()) {
        if (b->tied()) operation.tensor = b->gradients();
      }
      operation.pending = group.all_reduce(operation.tensor);
      break;
    }
    case Action::sum_expert_loads:
      operation.tensor = local_loads();
      operation.pending = group.all_reduce(operation.tensor);
      break;
    case Action::sum_totals:
      complete_gradients();
      operation.tensor = local_totals(plan.training);
      operation.pending = group.all_reduce(operation.tensor);
      break;
    default: TROUPE_CHECK(false, "{} cannot be started", i.to_string());
  }
  under_way_.push_back(std::move(operation));
}

void StepExecutor::finish(const Instruction& i, Work& work) {
  const Instruction started = i.started();
  const auto found = std::ranges::find(under_way_, started, &UnderWay::instruction);
  TROUPE_CHECK(found != under_way_.end(), "{} was not started", i.to_string());
  UnderWay operation = std::move(*found);
  under_way_.erase(found);
  if (i.action == Action::reduce_gradients) return bucket(i).finish_reduction(operation.pending);
  operation.pending.wait();
  switch (i.action) {
    case Action::receive_activation: flight(i).arrived = operation.tensor; break;
    case Action::receive_gradient: flight(i).gradient_arrived = operation.tensor; break;
    case Action::sum_expert_loads: set_loads(operation.tensor); break;
    case Action::sum_totals: {
      const std::vector<double> all = operation.tensor.to_host<double>();
      updates_ = work.totals({all[0], all[1], all[2], all[3], all[4], static_cast<int64_t>(all[5])});
      break;
    }
    default: break;
  }
}

// What no operation has reduced, because no other rank holds it.
void StepExecutor::complete_gradients() {
  parameters_.complete_gradients();
  for (const ParameterBucket* b : parameters_.buckets()) {
    if (observer_ && size_of(b->group(), parameters_.mesh().sizes()) == 1) observe_gradients(*b);
  }
}

void StepExecutor::observe_gradients(const ParameterBucket& of) const {
  for (Parameter* p : of.parameters()) {
    if (observer_ && p->has_gradient())
      observer_(fmt::format("the gradient of {}", p->name()), p->gradient_accumulator());
  }
}

}  // namespace troupe::parallel
