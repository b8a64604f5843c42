#include "parallel/schedule/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/parallel/test_plans.h"

namespace troupe::parallel {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

Simulation simulated(const StepPlan& plan, const Duration& duration) {
  Result<Simulation> simulation = simulate(plan, all_instructions(plan), duration);
  EXPECT_TRUE(simulation.ok()) << simulation.error().message();
  return simulation.ok() ? std::move(*simulation) : Simulation();
}

// What the simulator finds wrong; "": nothing.
std::string fault(const StepPlan& plan, const std::vector<Program>& programs) {
  const Result<Simulation> simulation = simulate(plan, programs);
  return simulation.ok() ? "" : simulation.error().message();
}

std::string at(size_t index, int rank) { return fmt::format("instruction {} of rank {} (", index, rank); }

// Every schedule on 1–8 stages, 1–24 microbatches, 1–4 virtual stages.
template <class F>
void for_each_pipeline(F f) {
  for (Schedule schedule : {Schedule::gpipe, Schedule::one_f_one_b, Schedule::interleaved}) {
    for (int p = 1; p <= 8; ++p) {
      for (int v = 1; v <= 4; ++v) {
        for (int m = 1; m <= 24; ++m) {
          const Pipeline pipeline{schedule, p, v, m};
          // More blocks than chunks by a number that divides neither, so that chunks differ.
          const int layers = p * v + (m * 5 + p) % 4;
          if (check(pipeline, layers).ok()) f(pipeline, layers);
        }
      }
    }
  }
}

TEST(Simulate, BubbleAndLivePassesAreThoseOfTheFormulas) {
  int pipelines = 0;
  for_each_pipeline([&](const Pipeline& p, int layers) {
    SCOPED_TRACE(
        fmt::format("{} {} × {}, {} microbatches", name_of(p.schedule), p.stages, p.virtual_stages, p.microbatches));
    const StepPlan plan = pipeline_plan(p.schedule, p.stages, p.virtual_stages, p.microbatches, layers);
    const int passes = p.virtual_stages * p.microbatches;
    for (const auto& [forward, backward] : {std::pair(1, 2), std::pair(3, 1)}) {
      const Simulation simulation = simulated(plan, pass_durations(plan, forward, backward));
      EXPECT_EQ(simulation.makespan, (passes + p.stages - 1) * (forward + backward));
      EXPECT_NEAR(simulation.bubble_fraction(), bubble_fraction(p), 1e-15);  // a division and a difference apart
      for (int stage = 0; stage < p.stages; ++stage) {
        EXPECT_EQ(simulation.busy[static_cast<size_t>(stage)], passes * (forward + backward));
        EXPECT_EQ(simulation.peak_live_passes[static_cast<size_t>(stage)], peak_live_passes(p, stage));
      }
    }
    ++pipelines;
  });
  EXPECT_GT(pipelines, 500);
}

TEST(Simulate, EveryKindOfMeshEnds) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const PlanShape shape = random_shape(seed);
    StepPlan plan = plan_of(shape);
    ASSERT_TRUE(check(plan).ok()) << to_string(shape);
    EXPECT_EQ(fault(plan, all_instructions(plan)), "") << to_string(shape);
    plan.training = false;
    EXPECT_EQ(fault(plan, all_instructions(plan)), "") << "validation of " << to_string(shape);
  }
}

// Two stages, two microbatches, forward 1, backward 2, a message 1: by hand.
//   rank 0: F0 0–1, F1 1–2, B0 6–8, B1 9–11        rank 1: F0 2–3, B0 3–5, F1 5–6, B1 6–8
TEST(Simulate, ATimelineByHand) {
  const StepPlan plan = pipeline_plan(Schedule::one_f_one_b, 2, 1, 2, 2);
  const Simulation simulation = simulated(plan, pass_durations(plan, 1, 2, 1));
  EXPECT_EQ(simulation.makespan, 11);
  EXPECT_DOUBLE_EQ(simulation.bubble_fraction(), 1 - 12.0 / 22);
  std::vector<std::string> spans;
  for (const TimelineSpan& s : simulation.spans) {
    if (s.kind == SpanKind::communication) continue;
    spans.push_back(
        fmt::format("{} {}{} {}-{}", s.lane, s.kind == SpanKind::forward ? 'F' : 'B', s.label, s.begin, s.end));
  }
  std::ranges::sort(spans);
  EXPECT_EQ(spans, (std::vector<std::string>{"0 B0 6-8", "0 B1 9-11", "0 F0 0-1", "0 F1 1-2", "1 B0 3-5", "1 B1 6-8",
                                             "1 F0 2-3", "1 F1 5-6"}));
  EXPECT_EQ(std::ranges::count(simulation.spans, SpanKind::communication, &TimelineSpan::kind), 8);
}

TEST(Simulate, CollectivesOfARankRunOneAfterAnotherBesideItsComputing) {
  StepPlan plan = plan_of({.mesh = {.data = 2}, .layers = 2, .zero = 0});
  const auto duration = [](int, const Instruction& i) {
    if (i.action == Action::reduce_gradients) return 10.0;
    return i.action == Action::backward ? 4.0 : i.action == Action::forward ? 1.0 : 0.0;
  };
  // Four forwards, then a reduction from the end of each backward on: 8–18, –28, –38, –48. One is under way beside a
  // backward.
  const Simulation simulation = simulated(plan, duration);
  EXPECT_EQ(simulation.makespan, 48);
  EXPECT_EQ(simulation.busy, (std::vector<double>{20, 20}));
}

// A plan with everything in it, small enough to try each instruction.
PlanShape rich(int zero) {
  return {.mesh = {.pipeline = 2, .data = 2, .tensor = 2, .expert = 2},
          .schedule = Schedule::interleaved,
          .virtual_stages = 2,
          .microbatches = 2,
          .layers = 5,
          .zero = zero,
          .recompute = Recompute::attention,
          .tied = true,
          .experts = true};
}

TEST(Simulate, NoInstructionCanBeLeftOut) {
  for (int zero : {0, 1, 2, 3}) {
    const StepPlan plan = plan_of(rich(zero));
    const std::vector<Program> programs = all_instructions(plan);
    for (size_t rank : {0u, 7u}) {
      for (size_t i = 0; i < programs[rank].size(); ++i) {
        std::vector<Program> without = programs;
        without[rank].erase(without[rank].begin() + static_cast<std::ptrdiff_t>(i));
        EXPECT_THAT(fault(plan, without), HasSubstr(fmt::format("rank {}", rank))) << programs[rank][i].to_string();
      }
    }
  }
}

TEST(Simulate, NoInstructionCanBeThereTwice) {
  for (int zero : {0, 1, 2, 3}) {
    const StepPlan plan = plan_of(rich(zero));
    const std::vector<Program> programs = all_instructions(plan);
    for (size_t rank : {1u, 6u}) {
      for (size_t i = 0; i < programs[rank].size(); ++i) {
        const Instruction& doubled = programs[rank][i];
        std::vector<Program> twice = programs;
        twice[rank].insert(twice[rank].begin() + static_cast<std::ptrdiff_t>(i), doubled);
        const std::string found = fault(plan, twice);
        if (doubled.action == Action::inside) EXPECT_THAT(found, HasSubstr(fmt::format("rank {}", rank)));
        else EXPECT_THAT(found, StartsWith(at(i + 1, static_cast<int>(rank)))) << doubled.to_string();
      }
    }
  }
}

// Pairs of neighbours of which the second needs the first.
bool needs(const Instruction& second, const Instruction& first) {
  if (second.phase == Phase::finish) return first == second.started();
  if (first.computes() && second.computes()) return first.microbatch == second.microbatch;
  if (first.phase == Phase::finish && first.operation == OperationKind::receive) return second.computes();
  if (first.computes()) {
    return second.action == Action::reduce_gradients || second.action == Action::release_parameters ||
           (second.phase == Phase::start && second.operation == OperationKind::send && second.is_message());
  }
  if (first.action == Action::gather_parameters && first.phase == Phase::finish)
    return second.computes() && second.unit == first.unit;
  if (first.action == Action::sum_totals) return second.action == Action::update;
  if (first.action == Action::update) return second.action == Action::gather_parameters;
  return false;
}

TEST(Simulate, NeighboursThatNeedOneAnotherCannotBeSwapped) {
  std::set<std::pair<Action, Action>> tried;
  for (int zero : {0, 1, 2, 3}) {
    for (bool experts : {false, true}) {
      PlanShape shape = rich(zero);
      shape.experts = experts;
      if (!experts) shape.mesh = {.pipeline = 2, .data = 2};
      const StepPlan plan = plan_of(shape);
      const std::vector<Program> programs = all_instructions(plan);
      for (size_t rank = 0; rank < programs.size(); rank += 3) {
        for (size_t i = 0; i + 1 < programs[rank].size(); ++i) {
          if (!needs(programs[rank][i + 1], programs[rank][i])) continue;
          tried.insert({programs[rank][i].action, programs[rank][i + 1].action});
          std::vector<Program> swapped = programs;
          std::swap(swapped[rank][i], swapped[rank][i + 1]);
          // The first of them is not ready, or has taken away what the second needs.
          EXPECT_THAT(fault(plan, swapped),
                      AnyOf(StartsWith(at(i, static_cast<int>(rank))), StartsWith(at(i + 1, static_cast<int>(rank)))))
              << programs[rank][i].to_string();
        }
      }
    }
  }
  EXPECT_GE(tried.size(), 12u);
}

// Where the n-th message that a rank sends is started.
std::optional<size_t> nth_send(const Program& program, int n) {
  for (size_t i = 0; i < program.size(); ++i) {
    if (program[i].is_message() && program[i].operation == OperationKind::send && program[i].phase == Phase::start &&
        n-- == 0)
      return i;
  }
  return {};
}

TEST(Simulate, ASendThatIsMissingNamesWhoWaits) {
  const StepPlan plan = pipeline_plan(Schedule::interleaved, 3, 2, 6, 7);
  const std::vector<Program> programs = all_instructions(plan);
  int tried = 0;
  for (size_t rank = 0; rank < 3; ++rank) {
    for (int n = 0; const auto send = nth_send(programs[rank], n); ++n, ++tried) {
      const Instruction lost = programs[rank][*send];
      std::vector<Program> without = programs;
      std::erase_if(without[rank], [&](const Instruction& i) { return i.communicates() && i.started() == lost; });
      const std::string found = fault(plan, without);
      const bool activation = lost.action == Action::send_activation;
      EXPECT_THAT(found, HasSubstr(fmt::format("rank {} in instruction", lost.peer))) << lost.to_string();
      EXPECT_THAT(found, HasSubstr(fmt::format("finish receive_{}, microbatch {}",
                                               activation ? "activation" : "gradient", lost.microbatch)));
    }
  }
  EXPECT_EQ(tried, 2 * 5 * 6);
}

TEST(Simulate, AWrongTagNamesTheMessageThatNobodyReceives) {
  const StepPlan plan = pipeline_plan(Schedule::one_f_one_b, 4, 1, 5, 4);
  const std::vector<Program> programs = all_instructions(plan);
  for (size_t rank = 0; rank < 4; ++rank) {
    for (int n = 0; const auto send = nth_send(programs[rank], n); ++n) {
      const Instruction sent = programs[rank][*send];
      std::vector<Program> wrong = programs;
      for (Instruction& i : wrong[rank]) {
        if (i.communicates() && i.started() == sent) i.tag += 100;
      }
      EXPECT_THAT(fault(plan, wrong), HasSubstr("nobody receives " + at(*send, static_cast<int>(rank))));
    }
  }
}

TEST(Simulate, AMessageThatIsTakenForAnotherIsNamed) {
  const StepPlan plan = pipeline_plan(Schedule::gpipe, 2, 1, 3, 2);
  std::vector<Program> programs = all_instructions(plan);
  // Microbatches 0 and 1 under one another's tags.
  for (Instruction& i : programs[0]) {
    if (i.action == Action::send_activation && i.microbatch < 2) i.tag = 2 * (1 - i.microbatch);
  }
  EXPECT_THAT(fault(plan, programs), HasSubstr("they do not mean the same message"));
  programs = all_instructions(plan);
  for (Instruction& i : programs[1]) {
    if (i.action == Action::receive_activation) ++i.elements;
  }
  EXPECT_THAT(fault(plan, programs), HasSubstr("they do not mean the same message"));
}

TEST(Simulate, AnotherOrderOfCollectivesOnOneRankIsNamed) {
  const StepPlan plan = plan_of(rich(2));
  const std::vector<Program> programs = all_instructions(plan);
  // Two reductions in groups that differ, started one after the other.
  std::set<std::pair<Group, Group>> tried;
  for (size_t i = 0; i + 1 < programs[5].size(); ++i) {
    const Instruction &a = programs[5][i], &b = programs[5][i + 1];
    const bool starts = a.phase == Phase::start && b.phase == Phase::start;
    if (!starts || a.action != b.action || a.action != Action::reduce_gradients) continue;
    tried.insert({a.group, b.group});
    std::vector<Program> swapped = programs;
    std::swap(swapped[5][i], swapped[5][i + 1]);
    const std::string found = fault(plan, swapped);
    EXPECT_THAT(found, HasSubstr("these wait for ever: ")) << a.to_string();
    EXPECT_THAT(found, HasSubstr(at(i, 5)));
  }
  EXPECT_EQ(tried.size(), 3u);
}

TEST(Simulate, CollectivesOfOneGroupThatDifferAreNamedWithTheirGroup) {
  const StepPlan plan = plan_of({.mesh = {.data = 2}, .microbatches = 2, .layers = 3, .zero = 2});
  const std::vector<Program> programs = all_instructions(plan);
  const auto reduction = [&](size_t rank, int unit) {
    const auto of = [&](const Instruction& i) {
      return i.action == Action::reduce_gradients && i.phase == Phase::start && i.unit == unit;
    };
    return static_cast<size_t>(std::ranges::find_if(programs[rank], of) - programs[rank].begin());
  };
  const size_t second = reduction(0, 2);
  for (const auto& change : std::vector<std::function<void(Instruction&)>>{
           [](Instruction& i) { i.elements = 1; }, [](Instruction& i) { i.operation = OperationKind::all_reduce; }}) {
    std::vector<Program> changed = programs;
    for (Instruction& i : changed[1]) {
      if (i.unit == 2 && i.action == Action::reduce_gradients) change(i);
    }
    const std::string found = fault(plan, changed);
    EXPECT_THAT(found, StartsWith("group \"data\" of ranks 0, 1: ")) << found;
    EXPECT_THAT(found, HasSubstr(at(second, 0)));
    EXPECT_THAT(found, HasSubstr(at(second, 1)));
  }
}

TEST(Simulate, GradientsAreReducedOnlyWhenTheyAreComplete) {
  // ZeRO 0 reduces once: a reduction after the first of two microbatches sums half of them.
  const StepPlan plan = plan_of({.mesh = {.data = 2}, .microbatches = 2, .layers = 1});
  std::vector<Program> programs = all_instructions(plan);
  for (Program& program : programs) {
    const auto start = std::ranges::find_if(program, [](const Instruction& i) {
      return i.action == Action::reduce_gradients && i.phase == Phase::start && i.unit == 2;
    });
    const Instruction moved = *start;
    program.erase(start);
    const auto first = std::ranges::find(program, Action::backward, &Instruction::action);
    program.insert(first + 1, moved);
  }
  EXPECT_THAT(fault(plan, programs), HasSubstr("reduces the gradients of 2 microbatches, of 1 at hand"));
}

// One stage: the head's backward adds to the tied table's gradient, which is reduced with the embedding.
TEST(Simulate, ATiedTableIsNotAddedToWhileItIsReduced) {
  const StepPlan plan = plan_of({.mesh = {.data = 2}, .microbatches = 2, .layers = 1, .zero = 2, .tied = true});
  std::vector<Program> programs = all_instructions(plan);
  EXPECT_EQ(fault(plan, programs), "");
  for (Program& program : programs) {
    // The end of the first microbatch's reduction, behind the head's next backward.
    const auto end = std::ranges::find_if(program, [](const Instruction& i) {
      return i.action == Action::reduce_gradients && i.phase == Phase::finish && i.unit == 0 && i.bucket == 1;
    });
    const Instruction moved = *end;
    program.erase(end);
    const auto head = std::ranges::find_if(
        program, [](const Instruction& i) { return i.action == Action::backward && i.microbatch == 1 && i.unit == 2; });
    program.insert(head + 1, moved);
  }
  EXPECT_THAT(fault(plan, programs), HasSubstr("adds to a gradient that is being reduced"));
}

// The order in which an executor may split backward: room for zero-bubble schedules.
TEST(Simulate, BackwardCanBeSplitIntoInputsAndWeights) {
  const StepPlan plan = pipeline_plan(Schedule::one_f_one_b, 2, 1, 3, 2);
  std::vector<Program> programs = all_instructions(plan);
  for (Program& program : programs) {
    Program split, weights;
    for (Instruction i : program) {
      if (i.action == Action::backward) {
        i.part = GradientPart::weights;
        weights.push_back(i);
        i.part = GradientPart::inputs;
      }
      if (i.action == Action::sum_totals && i.phase == Phase::start)
        split.insert(split.end(), weights.begin(), weights.end());
      split.push_back(i);
    }
    program = split;
  }
  EXPECT_EQ(fault(plan, programs), "");
  for (Program& program : programs)
    std::erase_if(program, [](const Instruction& i) { return i.part == GradientPart::weights; });
  EXPECT_THAT(fault(plan, programs), HasSubstr("lacks the gradients of microbatch 0"));
}

}  // namespace
}  // namespace troupe::parallel
