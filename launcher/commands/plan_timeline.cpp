#include "launcher/commands/plan_timeline.h"

#include "parallel/schedule/simulate.h"
#include "parallel/schedule/timeline.h"

namespace troupe::launcher {

using parallel::Instruction;

std::string draw_plan(const parallel::PlanTask& task, const parallel::Plan& plan) {
  const parallel::PassTimes times =
      parallel::pass_times(task.model, task.numerics, task.device, plan.layout, plan.shape, plan.recompute);
  // One rank stands for its stage: nothing within a stage is simulated, its times have it.
  parallel::Layout pipeline = plan.layout;
  pipeline.mesh = {.pipeline = plan.layout.mesh.pipeline};
  pipeline.zero = 0;
  parallel::StepShape shape = plan.shape;
  shape.global_batch = plan.shape.global_batch / plan.layout.mesh.data;
  const parallel::StepPlan steps = parallel::step_plan(task.model, pipeline, shape, plan.recompute);
  // A pass is spent in its first unit.
  const auto duration = [&](int stage, const Instruction& i) {
    if (i.is_message()) return 1e3 * times.message;
    if (!i.computes()) return 0.0;
    const int chunk = steps.pipeline().chunk(stage, i.virtual_stage);
    const auto [first, last] = steps.units_of(chunk);
    const parallel::PassTimes::Chunk& time = times.chunks[static_cast<size_t>(chunk)];
    if (i.action == parallel::Action::forward) return i.unit == first ? 1e3 * time.forward : 0;
    return i.unit == last ? 1e3 * time.backward : 0;
  };
  const auto simulation = parallel::simulate(steps, parallel::all_instructions(steps), duration);
  TROUPE_CHECK(simulation.ok(), "a schedule that does not end: {}", simulation.error().message());
  parallel::Timeline timeline{
      .title = fmt::format("{}: {:.1f}% idle", plan.layout.to_string(), 100 * simulation->bubble_fraction()),
      .unit = "ms",
      .lanes = {},
      .spans = simulation->spans};
  for (int stage = 0; stage < plan.layout.mesh.pipeline; ++stage)
    timeline.lanes.push_back(fmt::format("stage {}", stage));
  return parallel::draw_timeline(timeline);
}

}  // namespace troupe::launcher
