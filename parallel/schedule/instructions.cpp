#include "parallel/schedule/instructions.h"

#include <algorithm>
#include <array>
#include <set>

#include "runtime/base/check.h"

namespace troupe::parallel {
namespace {

constexpr int kTags = 32768;  // Communicator's; messages are told apart as long as fewer are under way

class Builder {
 public:
  Builder(const StepPlan& plan, int rank)
      : plan_(plan), pipeline_(plan.pipeline()), stage_(Mesh(plan.mesh, rank).rank(Axis::pipeline)) {
    const std::vector<Pass> order = plan.training ? passes(pipeline_, stage_) : forward_passes(pipeline_, stage_);
    for (const Pass& pass : order) add(pass);
  }

  Program build() {
    if (!runs_.empty()) start_receive(0);
    for (size_t i = 0; i < runs_.size(); ++i) {
      const Run& run = runs_[i];
      if (run.first) start_receive(next_pass(i));
      gather_ahead(i);
      if (run.first) finish_receive(run.pass);
      finish_gathers(run);
      if (!run.pass.forward) finish_reductions_of(run.unit);
      compute(run);
      release_behind(i);
      if (!run.pass.forward && run.pass.part != GradientPart::inputs) reduce(run);
      if (run.last) send(run.pass);
    }
    end_of_step();
    return std::move(program_);
  }

 private:
  // One unit of a pass.
  struct Run {
    Pass pass;
    int unit;
    bool first, last;
  };

  void add(const Pass& pass) {
    const auto [first, last] = plan_.units_of(pipeline_.chunk(stage_, pass.virtual_stage));
    for (int i = 0; i <= last - first; ++i)
      runs_.push_back({pass, pass.forward ? first + i : last - i, i == 0, i == last - first});
  }

  void start(Instruction instruction) {
    instruction.phase = Phase::start;
    program_.push_back(instruction);
  }
  void finish(Instruction instruction) {
    instruction.phase = Phase::finish;
    program_.push_back(instruction);
  }
  void finish_all(std::vector<Instruction>& instructions) {
    for (const Instruction& instruction : instructions) finish(instruction);
    instructions.clear();
  }
  bool alone(Group group) const { return size_of(group, plan_.mesh) == 1; }

  // Messages. What a pass waits for, or what it hands on; none at the ends of the model.
  std::optional<Instruction> message(const Pass& pass, bool incoming) const {
    if (!pass.forward && pass.part == GradientPart::weights) return {};
    const int chunk = pipeline_.chunk(stage_, pass.virtual_stage);
    const int other = pass.forward == incoming ? chunk - 1 : chunk + 1;
    if (other < 0 || other >= pipeline_.chunks()) return {};
    Instruction i;
    if (pass.forward) i.action = incoming ? Action::receive_activation : Action::send_activation;
    else i.action = incoming ? Action::receive_gradient : Action::send_gradient;
    i.operation = incoming ? OperationKind::receive : OperationKind::send;
    i.group = Group::pipeline;
    i.elements = plan_.activation_elements;
    i.peer = pipeline_.stage_of(other);
    // The place in the model where it crosses from chunk to chunk, whichever of the two looks at it.
    const int place = pass.microbatch * plan_.virtual_stages + pipeline_.virtual_stage_of(std::max(chunk, other));
    i.tag = (2 * place + (pass.forward ? 0 : 1)) % kTags;
    i.microbatch = pass.microbatch;
    i.virtual_stage = pass.virtual_stage;
    return i;
  }
  size_t next_pass(size_t run) const {
    while (!runs_[run].last) ++run;
    return run + 1;
  }
  void start_receive(size_t run) {
    if (run >= runs_.size()) return;
    if (const auto receive = message(runs_[run].pass, true)) start(*receive);
  }
  void finish_receive(const Pass& pass) {
    if (const auto receive = message(pass, true)) finish(*receive);
  }
  void send(const Pass& pass) {
    const auto message_out = message(pass, false);
    if (!message_out) return;
    std::vector<Instruction>& before = sends_[pass.forward ? 0 : 1];
    finish_all(before);
    start(*message_out);
    before.push_back(*message_out);
  }

  // Computing, and what happens inside.
  void compute(const Run& run) {
    Instruction i;
    i.action = run.pass.forward ? Action::forward : Action::backward;
    i.part = run.pass.part;
    i.microbatch = run.pass.microbatch;
    i.virtual_stage = run.pass.virtual_stage;
    i.unit = run.unit;
    program_.push_back(i);
    if (!run.pass.forward && run.pass.part == GradientPart::weights) return;
    const Unit& unit = plan_.units[static_cast<size_t>(run.unit)];
    const auto issue = [&](const std::vector<InsideCollective>& collectives, bool attention) {
      for (const InsideCollective& c : collectives) {
        if (c.attention != attention || alone(c.group)) continue;
        i.action = Action::inside;
        i.operation = c.operation;
        i.group = c.group;
        i.elements = c.elements;
        program_.push_back(i);
      }
    };
    // Attention comes first in forward, last in backward; run again, it is so right before its own backward. A block is
    // run again as a whole. Embedding and head are not.
    const bool block = run.unit > 0 && run.unit < plan_.last_unit();
    const bool again = block && !run.pass.forward && plan_.recompute != Recompute::none;
    if (run.pass.forward || (again && plan_.recompute == Recompute::block)) {
      issue(unit.inside_forward, true);
      issue(unit.inside_forward, false);
    }
    if (run.pass.forward) return;
    issue(unit.inside_backward, false);
    if (again && plan_.recompute == Recompute::attention) issue(unit.inside_forward, true);
    issue(unit.inside_backward, true);
  }

  // Parameters.
  std::vector<Instruction> gathers(int unit) const {
    std::vector<Instruction> all;
    const std::vector<Bucket> buckets = plan_.buckets(unit);
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (alone(buckets[b].group)) continue;
      Instruction i;
      i.action = Action::gather_parameters;
      i.operation = OperationKind::all_gather;
      i.group = buckets[b].group;
      i.elements = buckets[b].elements / size_of(buckets[b].group, plan_.mesh);
      i.unit = unit;
      i.bucket = static_cast<int>(b);
      all.push_back(i);
    }
    return all;
  }
  std::vector<int> needs(size_t run) const {
    if (plan_.zero < 3 || run >= runs_.size()) return {};
    const Pass& pass = runs_[run].pass;
    // Gradients of weights are products of activations and gradients that are there.
    if (!pass.forward && pass.part == GradientPart::weights) return {};
    return plan_.parameters_of(runs_[run].unit);
  }
  void gather_ahead(size_t run) {
    for (size_t ahead : {run, run + 1}) {
      for (int unit : needs(ahead)) {
        if (!whole_.insert(unit).second) continue;
        for (const Instruction& gather : gathers(unit)) {
          start(gather);
          gathering_.push_back(gather);
        }
      }
    }
  }
  void finish_gathers(const Run& run) {
    const std::vector<int> units = plan_.parameters_of(run.unit);
    std::erase_if(gathering_, [&](const Instruction& gather) {
      if (std::ranges::find(units, gather.unit) == units.end()) return false;
      finish(gather);
      return true;
    });
  }
  void release_behind(size_t run) {
    const std::vector<int> next = needs(run + 1);
    for (int unit : needs(run)) {
      if (std::ranges::find(next, unit) != next.end()) continue;
      whole_.erase(unit);
      if (gathers(unit).empty()) continue;
      Instruction i;
      i.action = Action::release_parameters;
      i.unit = unit;
      program_.push_back(i);
    }
  }

  // Gradients.
  void reduce(const Run& run) {
    const bool every_microbatch = plan_.zero >= 2;
    if (!every_microbatch && run.pass.microbatch != plan_.microbatches - 1) return;
    finish_all(reductions_);
    const std::vector<Bucket> buckets = plan_.buckets(run.unit);
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (alone(buckets[b].group)) continue;
      Instruction i;
      i.action = Action::reduce_gradients;
      i.operation = plan_.zero == 0 ? OperationKind::all_reduce : OperationKind::reduce_scatter;
      i.group = buckets[b].group;
      i.elements = shard(buckets[b]);
      if (every_microbatch) i.microbatch = run.pass.microbatch;
      i.unit = run.unit;
      i.bucket = static_cast<int>(b);
      start(i);
      reductions_.push_back(i);
    }
  }
  // What a backward adds to must not be under way: its own gradients, and those of a tied table.
  void finish_reductions_of(int unit) {
    const std::vector<int> units = plan_.parameters_of(unit);
    if (std::ranges::any_of(reductions_,
                            [&](const Instruction& i) { return std::ranges::find(units, i.unit) != units.end(); }))
      finish_all(reductions_);
  }
  int64_t shard(const Bucket& bucket) const {
    return plan_.zero == 0 ? bucket.elements : bucket.elements / size_of(bucket.group, plan_.mesh);
  }

  std::vector<int> own_units() const {
    std::vector<int> units;
    for (int v = 0; v < plan_.virtual_stages; ++v) {
      const auto [first, last] = plan_.units_of(pipeline_.chunk(stage_, v));
      for (int unit = first; unit <= last; ++unit) units.push_back(unit);
    }
    return units;
  }

  static Instruction sum(Action action, Group group, int64_t elements) {
    Instruction i;
    i.action = action;
    i.operation = OperationKind::all_reduce;
    i.group = group;
    i.elements = elements;
    return i;
  }

  void end_of_step() {
    finish_all(reductions_);
    for (auto& sends : sends_) finish_all(sends);
    std::vector<Instruction> sums;
    if (plan_.training) {
      const bool end = stage_ == 0 || stage_ == pipeline_.stages - 1;
      if (plan_.tied && end && !alone(Group::ends)) {
        sums.push_back(sum(Action::sum_tied_gradients, Group::ends, shard(*plan_.tied)));
        sums.back().unit = 0;
      }
      int64_t loads = 0;
      for (int unit : own_units()) loads += plan_.units[static_cast<size_t>(unit)].balanced_experts;
      if (loads > 0) sums.push_back(sum(Action::sum_expert_loads, Group::stage, loads));
    }
    for (const Instruction& i : sums) start(i);
    finish_all(sums);
    const Instruction totals = sum(Action::sum_totals, Group::world, 0);
    start(totals);
    finish(totals);
    if (!plan_.training) return;
    for (int unit : own_units()) {
      Instruction i;
      i.action = Action::update;
      i.unit = unit;
      program_.push_back(i);
      if (plan_.zero != 1 && plan_.zero != 2) continue;
      for (const Instruction& gather : gathers(unit)) {
        start(gather);
        gathering_.push_back(gather);
      }
    }
    finish_all(gathering_);
  }

  const StepPlan& plan_;
  const Pipeline pipeline_;
  const int stage_;
  std::vector<Run> runs_;
  Program program_;
  std::set<int> whole_;                            // units that are, or are being, gathered
  std::vector<Instruction> gathering_;             // started
  std::vector<Instruction> reductions_;            // started
  std::array<std::vector<Instruction>, 2> sends_;  // started: of activations, of gradients
};

}  // namespace

Program instructions(const StepPlan& plan, int rank) { return Builder(plan, rank).build(); }

std::vector<Program> all_instructions(const StepPlan& plan) {
  std::vector<Program> programs;
  for (int rank = 0; rank < plan.mesh.ranks(); ++rank) programs.push_back(instructions(plan, rank));
  return programs;
}

}  // namespace troupe::parallel
