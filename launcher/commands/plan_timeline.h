// The picture of a planned step.
#pragma once
#include <string>

#include "parallel/plan/plan.h"

namespace troupe::launcher {

// An SVG with a lane for each stage: its schedule's instructions (parallel/schedule), simulated with the times that the
// plan says. Ranks that differ on nothing but data, context and tensor do the same at the same time.
std::string draw_plan(const parallel::PlanTask& task, const parallel::Plan& plan);

}  // namespace troupe::launcher
