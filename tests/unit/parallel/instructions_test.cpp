#include "parallel/schedule/instructions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/parallel/test_plans.h"

namespace troupe::parallel {
namespace {

std::vector<std::string> print(const Program& program) {
  std::vector<std::string> lines;
  for (const Instruction& i : program) lines.push_back(i.to_string());
  return lines;
}

// Indices of the instructions of that action and phase.
std::vector<size_t> all(const Program& program, Action action, Phase phase) {
  std::vector<size_t> found;
  for (size_t i = 0; i < program.size(); ++i) {
    if (program[i].action == action && program[i].phase == phase) found.push_back(i);
  }
  return found;
}

TEST(Instructions, TheFirstOfTwoStages) {
  const StepPlan plan = pipeline_plan(Schedule::one_f_one_b, 2, 1, 2, 2);
  EXPECT_EQ(print(instructions(plan, 0)),
            (std::vector<std::string>{
                "forward, microbatch 0, virtual stage 0, unit 0",
                "forward, microbatch 0, virtual stage 0, unit 1",
                "start send_activation, microbatch 0, virtual stage 0: send of 96 to stage 1 with tag 0",
                "start receive_gradient, microbatch 0, virtual stage 0: receive of 96 from stage 1 with tag 1",
                "forward, microbatch 1, virtual stage 0, unit 0",
                "forward, microbatch 1, virtual stage 0, unit 1",
                "finish send_activation, microbatch 0, virtual stage 0: send of 96 to stage 1 with tag 0",
                "start send_activation, microbatch 1, virtual stage 0: send of 96 to stage 1 with tag 2",
                "start receive_gradient, microbatch 1, virtual stage 0: receive of 96 from stage 1 with tag 3",
                "finish receive_gradient, microbatch 0, virtual stage 0: receive of 96 from stage 1 with tag 1",
                "backward, microbatch 0, virtual stage 0, unit 1",
                "backward, microbatch 0, virtual stage 0, unit 0",
                "finish receive_gradient, microbatch 1, virtual stage 0: receive of 96 from stage 1 with tag 3",
                "backward, microbatch 1, virtual stage 0, unit 1",
                "backward, microbatch 1, virtual stage 0, unit 0",
                "finish send_activation, microbatch 1, virtual stage 0: send of 96 to stage 1 with tag 2",
                "start sum_totals: all_reduce in group \"world\"",
                "finish sum_totals: all_reduce in group \"world\"",
                "update, unit 0",
                "update, unit 1",
            }));
}

TEST(Instructions, OneRankHasNobodyToTalkTo) {
  for (int zero : {0, 1, 2, 3}) {
    const Program program =
        instructions(plan_of({.mesh = {}, .microbatches = 3, .layers = 2, .zero = zero, .tied = true}), 0);
    for (const Instruction& i : program) {
      EXPECT_TRUE(i.computes() || i.action == Action::update || i.action == Action::sum_totals ||
                  i.action == Action::release_parameters)
          << i.to_string();
    }
    EXPECT_EQ(program.size(), 3u * 2 * 4 + 2 + 4);
  }
}

TEST(Instructions, Zero0And1MoveNoGradientsWhileTheyAccumulate) {
  for (int zero : {0, 1, 2, 3}) {
    const Program program =
        instructions(plan_of({.mesh = {.data = 2}, .microbatches = 3, .layers = 2, .zero = zero}), 1);
    const std::vector<size_t> reductions = all(program, Action::reduce_gradients, Phase::start);
    EXPECT_EQ(reductions.size(), zero < 2 ? 4u : 12u);
    // Each right after the backward that completes it, so that it runs beside the next.
    for (size_t at : reductions) {
      const Instruction& i = program[at];
      EXPECT_EQ(i.operation, zero == 0 ? OperationKind::all_reduce : OperationKind::reduce_scatter);
      EXPECT_EQ(i.elements, (100 + i.unit) * (zero == 0 ? 2 : 1));
      size_t before = at;
      while (program[before].action != Action::backward) --before;
      EXPECT_EQ(program[before].unit, i.unit);
      EXPECT_EQ(program[before].microbatch, zero < 2 ? 2 : i.microbatch);
      EXPECT_LE(at - before, 3u);  // the release, and the end of the reduction before
    }
    // Updated parameters are gathered by those who keep them whole.
    const std::vector<size_t> gathers = all(program, Action::gather_parameters, Phase::start);
    const size_t update = all(program, Action::update, Phase::whole).front();
    const auto after = static_cast<size_t>(std::ranges::count_if(gathers, [&](size_t at) { return at > update; }));
    EXPECT_EQ(after, zero == 1 || zero == 2 ? 4u : 0u);
    EXPECT_EQ(gathers.size() > after, zero == 3);
  }
}

TEST(Instructions, Zero3HasTwoUnitsWholeAtMostAndGathersOneAhead) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    PlanShape shape = random_shape(seed);
    shape.zero = 3;
    shape.tied = false;
    if (shape.mesh.data * shape.mesh.context == 1) continue;
    const StepPlan plan = plan_of(shape);
    for (int rank = 0; rank < shape.mesh.ranks(); ++rank) {
      const Program program = instructions(plan, rank);
      std::vector<int> runs;  // units, one after another
      for (const Instruction& i : program) {
        if (i.computes()) runs.push_back(i.unit);
      }
      runs.push_back(runs.back());
      std::set<int> whole;
      size_t run = 0;
      for (const Instruction& i : program) {
        if (i.action == Action::gather_parameters && i.phase == Phase::start) whole.insert(i.unit);
        if (i.action == Action::release_parameters) whole.erase(i.unit);
        EXPECT_LE(whole.size(), 2u) << to_string(shape);
        if (!i.computes()) continue;
        EXPECT_TRUE(whole.contains(runs[run]) && whole.contains(runs[run + 1])) << to_string(shape);
        ++run;
      }
      EXPECT_TRUE(whole.empty());
    }
  }
}

// What stands inside the first forward or backward of a block.
std::vector<OperationKind> inside(const Program& program, Action action) {
  std::vector<OperationKind> operations;
  const auto of = [&](const Instruction& i) { return i.action == action && i.unit == 1; };
  for (auto i = std::ranges::find_if(program, of) + 1; i->action == Action::inside; ++i)
    operations.push_back(i->operation);
  return operations;
}

TEST(Instructions, RecomputingReplaysCollectivesInTheirOrder) {
  using enum OperationKind;
  PlanShape shape{.mesh = {.tensor = 2, .expert = 2}, .layers = 1, .experts = true};
  const std::vector<OperationKind> forward{all_gather, reduce_scatter, all_to_all, all_to_all, all_to_all};
  const std::vector<OperationKind> backward{all_to_all, all_to_all, all_gather, reduce_scatter};
  std::vector<OperationKind> after_block = forward;
  after_block.insert(after_block.end(), backward.begin(), backward.end());
  const std::vector<OperationKind> after_attention{all_to_all,     all_to_all, all_gather,
                                                   reduce_scatter, all_gather, reduce_scatter};
  for (Recompute recompute : {Recompute::none, Recompute::attention, Recompute::block}) {
    shape.recompute = recompute;
    const Program program = instructions(plan_of(shape), 1);
    EXPECT_EQ(inside(program, Action::forward), forward);
    EXPECT_EQ(inside(program, Action::backward), recompute == Recompute::none    ? backward
                                                 : recompute == Recompute::block ? after_block
                                                                                 : after_attention);
    // The head is not run again.
    const auto head = std::ranges::find_if(program, [](const Instruction& i) { return i.action == Action::backward; });
    EXPECT_EQ(head->unit, 2);
    EXPECT_EQ(std::count_if(program.begin(), program.end(),
                            [](const Instruction& i) { return i.action == Action::inside && i.unit == 2; }),
              4);
  }
}

TEST(Instructions, ATiedTableIsSummedBetweenTheEndsOnceItIsReduced) {
  for (int zero : {0, 1, 3}) {
    const StepPlan plan =
        plan_of({.mesh = {.pipeline = 3, .data = 2}, .microbatches = 2, .layers = 3, .zero = zero, .tied = true});
    for (int rank = 0; rank < 6; ++rank) {
      const Program program = instructions(plan, rank);
      const std::vector<size_t> sums = all(program, Action::sum_tied_gradients, Phase::start);
      const bool end = rank < 2 || rank >= 4;
      ASSERT_EQ(sums.size(), end ? 1u : 0u);
      if (!end) continue;
      EXPECT_EQ(program[sums[0]].elements, zero == 0 ? 800 : 400);
      EXPECT_LT(all(program, Action::reduce_gradients, Phase::finish).back(), sums[0]);
      EXPECT_LT(sums[0], all(program, Action::sum_totals, Phase::start)[0]);
      // A bucket of its own on both, so that shards lie alike.
      const int unit = rank < 2 ? 0 : plan.last_unit();
      EXPECT_EQ(plan.buckets(unit).back(), *plan.tied);
    }
  }
  // On one stage it is one table, which the head finds gathered.
  const StepPlan plan = plan_of({.mesh = {.data = 2}, .layers = 2, .zero = 3, .tied = true});
  EXPECT_EQ(plan.parameters_of(3), (std::vector<int>{3, 0}));
  EXPECT_TRUE(all(instructions(plan, 0), Action::sum_tied_gradients, Phase::start).empty());
}

TEST(Instructions, ExpertLoadsAreCountedForTheBlocksOfAStage) {
  const StepPlan plan = plan_of({.mesh = {.pipeline = 2, .data = 2, .expert = 2}, .layers = 5, .experts = true});
  EXPECT_EQ(plan.blocks, (std::vector<int>{3, 2}));
  for (int rank : {0, 2}) {
    const Program program = instructions(plan, rank);
    const std::vector<size_t> sums = all(program, Action::sum_expert_loads, Phase::start);
    ASSERT_EQ(sums.size(), 1u);
    EXPECT_EQ(program[sums[0]].elements, 8 * (rank == 0 ? 3 : 2));
    EXPECT_EQ(program[sums[0]].group, Group::stage);
  }
}

TEST(Instructions, AValidationBatchOnlyGoesForward) {
  StepPlan plan = plan_of({.mesh = {.pipeline = 2, .data = 2},
                           .schedule = Schedule::interleaved,
                           .virtual_stages = 2,
                           .microbatches = 3,
                           .layers = 4});
  EXPECT_FALSE(check(plan).ok());
  plan.training = false;
  ASSERT_TRUE(check(plan).ok());
  for (const Instruction& i : instructions(plan, 3)) {
    EXPECT_TRUE(i.action == Action::forward || i.action == Action::send_activation ||
                i.action == Action::receive_activation || i.action == Action::sum_totals)
        << i.to_string();
  }
}

TEST(Instructions, AnUnknownZeroIsRefused) {
  StepPlan plan = plan_of({.mesh = {}, .layers = 1});
  plan.zero = 4;
  EXPECT_EQ(check(plan).error().message(), "parallel.zero = 4; nearest valid: 3");
}

}  // namespace
}  // namespace troupe::parallel
