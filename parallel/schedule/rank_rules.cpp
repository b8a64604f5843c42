#include "parallel/schedule/rank_rules.h"

#include <algorithm>

namespace troupe::parallel {

RankRules::RankRules(const StepPlan& plan, int rank)
    : plan_(plan), pipeline_(plan.pipeline()), stage_(Mesh(plan.mesh, rank).rank(Axis::pipeline)) {
  passes_.resize(static_cast<size_t>(plan.virtual_stages * plan.microbatches));
  int loads = 0;
  for (int v = 0; v < plan.virtual_stages; ++v) {
    const auto [first, last] = plan.units_of(pipeline_.chunk(stage_, v));
    for (int unit = first; unit <= last; ++unit) {
      units_[unit].buckets.resize(plan.buckets(unit).size());
      loads += plan.units[static_cast<size_t>(unit)].balanced_experts;
    }
  }
  const bool end = stage_ == 0 || stage_ == plan.mesh.pipeline - 1;
  ties_ = !plan.training || !plan.tied || !end || plan.mesh.pipeline == 1;
  loads_ = !plan.training || loads == 0;
}

std::string RankRules::take(const Instruction& i) {
  if (std::string wrong = not_here(i); !wrong.empty()) return wrong;
  const auto started = std::ranges::find(started_, i.started());
  if (i.phase == Phase::start && started != started_.end()) return "is under way already";
  if (i.phase == Phase::finish && started == started_.end()) return "has not been started";
  std::string wrong;
  switch (i.action) {
    case Action::forward: wrong = take_forward(i); break;
    case Action::backward: wrong = take_backward(i); break;
    case Action::send_activation:
    case Action::receive_activation:
    case Action::send_gradient:
    case Action::receive_gradient: wrong = take_message(i); break;
    case Action::gather_parameters: wrong = take_gather(i); break;
    case Action::release_parameters: wrong = take_release(i); break;
    case Action::reduce_gradients: wrong = take_reduction(i); break;
    case Action::sum_tied_gradients:
    case Action::sum_expert_loads:
    case Action::sum_totals: wrong = take_sum(i); break;
    case Action::update: wrong = take_update(i); break;
    case Action::inside: {
      const Instruction& c = previous_;
      if (!c.computes() || c.microbatch != i.microbatch || c.unit != i.unit) wrong = "is inside nothing that runs here";
      break;
    }
  }
  if (!wrong.empty()) return wrong;
  if (i.phase == Phase::start) started_.push_back(i);
  if (i.phase == Phase::finish) started_.erase(std::ranges::find(started_, i.started()));
  if (i.action != Action::inside) previous_ = i;
  return "";
}

std::string RankRules::not_here(const Instruction& i) const {
  const bool passes = i.virtual_stage >= 0;
  if (passes && i.virtual_stage >= plan_.virtual_stages) return "is of a virtual stage that does not exist";
  if ((i.computes() || i.is_message()) && (!passes || i.microbatch < 0)) return "is of no pass";
  if (i.microbatch >= plan_.microbatches) return "is of a microbatch that does not exist";
  const bool of_unit = i.computes() || i.action == Action::gather_parameters ||
                       i.action == Action::release_parameters || i.action == Action::reduce_gradients ||
                       i.action == Action::update;
  if (of_unit && !units_.contains(i.unit)) return "is of a unit that is not here";
  const bool of_bucket = i.action == Action::gather_parameters || i.action == Action::reduce_gradients;
  if (of_bucket && (i.bucket < 0 || i.bucket >= static_cast<int>(units_.at(i.unit).buckets.size())))
    return "is of a bucket that does not exist";
  if (i.computes()) {
    const auto [first, last] = plan_.units_of(chunk_of(i));
    if (i.unit < first || i.unit > last) return "is of a unit that is not of its virtual stage";
  }
  const bool backward =
      i.action == Action::backward || i.action == Action::reduce_gradients || i.action == Action::update;
  if (backward && !plan_.training) return "has no place where nothing is trained";
  return "";
}

bool RankRules::under_way(Action action, int unit) const {
  return std::ranges::any_of(started_, [&](const Instruction& i) { return i.action == action && i.unit == unit; });
}

std::string RankRules::not_whole(int unit) const {
  if (plan_.zero < 3) return "";
  for (int of : plan_.parameters_of(unit)) {
    const std::vector<Bucket> buckets = plan_.buckets(of);
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (!alone(buckets[b]) && !units_.at(of).buckets[b].whole)
        return fmt::format("needs bucket {} of unit {}, which is not gathered", b, of);
    }
  }
  return "";
}

std::string RankRules::take_forward(const Instruction& i) {
  PassState& pass = pass_of(i);
  const auto [first, last] = plan_.units_of(chunk_of(i));
  if (pass.forward != i.unit - first)
    return pass.forward > i.unit - first ? "has run already" : "needs the unit ahead, which has not run";
  if (i.unit == first && first > 0 && !pass.activation) return "needs an activation that has not been received";
  if (std::string wrong = not_whole(i.unit); !wrong.empty()) return wrong;
  ++pass.forward;
  if (i.unit == first && plan_.training) peak_ = std::max(peak_, ++live_);
  return "";
}

std::string RankRules::take_backward(const Instruction& i) {
  PassState& pass = pass_of(i);
  const auto [first, last] = plan_.units_of(chunk_of(i));
  const int at = last - i.unit;
  if (pass.forward != last - first + 1) return "needs its forward, which has not ended";
  if (i.part != GradientPart::weights) {
    if (pass.inputs != at) return pass.inputs > at ? "has run already" : "needs the unit behind, which has not run";
    if (i.unit == last && last < plan_.last_unit() && !pass.gradient)
      return "needs a gradient that has not been received";
    if (std::string wrong = not_whole(i.unit); !wrong.empty()) return wrong;
    ++pass.inputs;
  }
  if (i.part == GradientPart::inputs) return "";
  if (pass.weights != at) return pass.weights > at ? "has run already" : "needs the unit behind, which has not run";
  if (pass.weights >= pass.inputs) return "needs the gradients of inputs, which are not there";
  for (int unit : plan_.parameters_of(i.unit)) {
    if (under_way(Action::reduce_gradients, unit)) return "adds to a gradient that is being reduced";
  }
  UnitState& unit = units_.at(i.unit);
  if (unit.microbatches != i.microbatch)
    return fmt::format("adds its gradients out of order: microbatch {} is next", unit.microbatches);
  ++unit.microbatches;
  ++pass.weights;
  if (pass.weights == last - first + 1) --live_;
  return "";
}

std::string RankRules::take_message(const Instruction& i) {
  PassState& pass = pass_of(i);
  const int chunk = chunk_of(i);
  const auto [first, last] = plan_.units_of(chunk);
  const bool forward = i.action == Action::send_activation || i.action == Action::receive_activation;
  const bool send = i.operation == OperationKind::send;
  const int other = forward == send ? chunk + 1 : chunk - 1;
  if (other < 0 || other >= pipeline_.chunks()) return "crosses an end of the model";
  if (send != (i.action == Action::send_activation || i.action == Action::send_gradient)) return "is no such operation";
  const int units = last - first + 1;
  if (send && (forward ? pass.forward : pass.inputs) != units) return "sends what has not been computed";
  bool& done = forward ? (send ? pass.sent_activation : pass.activation) : (send ? pass.sent_gradient : pass.gradient);
  if (done) return "has been done already";
  if (i.phase == Phase::finish) done = true;
  return "";
}

std::string RankRules::take_gather(const Instruction& i) {
  UnitState& unit = units_.at(i.unit);
  BucketState& bucket = unit.buckets[static_cast<size_t>(i.bucket)];
  if (bucket.whole) return "is gathered already";
  if (plan_.zero < 3 && !unit.updated) return "is gathered before it is updated";
  if (i.phase == Phase::finish) bucket.whole = true;
  return "";
}

std::string RankRules::take_release(const Instruction& i) {
  const std::vector<Bucket> buckets = plan_.buckets(i.unit);
  UnitState& unit = units_.at(i.unit);
  for (size_t b = 0; b < buckets.size(); ++b) {
    if (!alone(buckets[b]) && !unit.buckets[b].whole) return "is not gathered";
    unit.buckets[b].whole = false;
  }
  return "";
}

std::string RankRules::take_reduction(const Instruction& i) {
  UnitState& unit = units_.at(i.unit);
  BucketState& bucket = unit.buckets[static_cast<size_t>(i.bucket)];
  const bool each = plan_.zero >= 2;
  if (each != (i.microbatch >= 0)) return each ? "leaves open of which microbatch" : "comes before the last microbatch";
  const int complete = each ? i.microbatch + 1 : plan_.microbatches;
  if (unit.microbatches != complete)
    return fmt::format("reduces the gradients of {} microbatches, of {} at hand", complete, unit.microbatches);
  if (bucket.reduced != (each ? i.microbatch : 0)) return "is not what is to be reduced next";
  if (i.phase == Phase::finish) ++bucket.reduced;
  return "";
}

std::string RankRules::gradients_missing() const {
  const int times = plan_.zero >= 2 ? plan_.microbatches : 1;
  for (const auto& [number, unit] : units_) {
    if (unit.microbatches != plan_.microbatches)
      return fmt::format("unit {} lacks the gradients of microbatch {}", number, unit.microbatches);
    const std::vector<Bucket> buckets = plan_.buckets(number);
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (!alone(buckets[b]) && unit.buckets[b].reduced != times)
        return fmt::format("bucket {} of unit {} is not reduced", b, number);
    }
  }
  return "";
}

bool RankRules::all_forward() const {
  for (size_t n = 0; n < passes_.size(); ++n) {
    const int virtual_stage = static_cast<int>(n) / plan_.microbatches;
    const auto [first, last] = plan_.units_of(pipeline_.chunk(stage_, virtual_stage));
    if (passes_[n].forward != last - first + 1) return false;
  }
  return true;
}

std::string RankRules::take_sum(const Instruction& i) {
  const bool totals = i.action == Action::sum_totals, loads = i.action == Action::sum_expert_loads;
  bool& done = totals ? totals_ : loads ? loads_ : ties_;
  if (done) return "has nothing to sum, or has been done";
  if (!all_forward()) return "comes before the last forward";
  if (plan_.training && !loads) {
    if (std::string wrong = gradients_missing(); !wrong.empty()) return wrong;
  }
  if (totals && !ties_) return "comes before the sum of the tied gradients";
  if (i.phase == Phase::finish) done = true;
  return "";
}

std::string RankRules::take_update(const Instruction& i) {
  if (!totals_) return "comes before the sum of the totals";
  if (!loads_) return "comes before the sum of the experts' loads";
  bool& updated = units_.at(i.unit).updated;
  if (updated) return "has been done already";
  updated = true;
  return "";
}

std::string RankRules::missing() const {
  if (!started_.empty()) return fmt::format("never ends \"{}\"", started_.front().to_string());
  if (!all_forward()) return "does not run every microbatch forward";
  if (!totals_) return "does not sum the totals";
  for (const auto& [number, unit] : units_) {
    if (plan_.training && !unit.updated) return fmt::format("does not update unit {}", number);
    const std::vector<Bucket> buckets = plan_.buckets(number);
    const bool gathers = plan_.training && (plan_.zero == 1 || plan_.zero == 2);
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (!alone(buckets[b]) && unit.buckets[b].whole != gathers)
        return fmt::format("{} bucket {} of unit {}", gathers ? "does not gather" : "does not release", b, number);
    }
  }
  for (size_t n = 0; n < passes_.size(); ++n) {
    const int chunk = pipeline_.chunk(stage_, static_cast<int>(n) / plan_.microbatches);
    const int microbatch = static_cast<int>(n) % plan_.microbatches;
    if (chunk + 1 < pipeline_.chunks() && !passes_[n].sent_activation)
      return fmt::format("does not send the activation of microbatch {}", microbatch);
    if (plan_.training && chunk > 0 && !passes_[n].sent_gradient)
      return fmt::format("does not send the gradient of microbatch {}", microbatch);
  }
  return "";
}

}  // namespace troupe::parallel
