// A simulator of instruction lists: takes those of all ranks, and proves that they end, or says where they do not.
//
//   · A `finish` waits until all that take part in its operation have started it, messages included: nothing is
//     buffered.
//   · A rank's collectives, of all its groups, are carried out one after another in the order in which it started them,
//     messages beside them. So groups that wait for one another are found as well.
//   · All ranks of a group start the same collective, down to its microbatch, unit and size. Messages are matched by
//     ranks and tag, in order, and both ends mean the same one.
//   · Every rank's list holds to rank_rules.h.
//
// With durations it is a timeline, too.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "parallel/schedule/instructions.h"
#include "parallel/schedule/timeline.h"

namespace troupe::parallel {

// How long a rank takes for an instruction, in any unit of time. Asked of what computes, of `update`, and, with the
// instruction that starts it (or `inside`), of what communicates: how long it takes once all take part in it and
// nothing before it is under way; the ranks' longest counts.
using Duration = std::function<double(int rank, const Instruction&)>;

// Every pass through a chunk takes `forward` or `backward` (spent in its first unit), a message `transfer`, all else
// nothing: what formulas are about. `plan` outlives the result.
Duration pass_durations(const StepPlan& plan, double forward, double backward, double transfer = 0);

struct Simulation {
  double makespan = 0;
  std::vector<double> busy;           // of each rank: computing
  std::vector<int> peak_live_passes;  // of each rank: passes forward that wait for theirs backward
  std::vector<TimelineSpan> spans;    // lanes are ranks; what takes no time is left out

  double bubble_fraction() const;  // of all ranks' time, what they do not compute
};

// Errors (failed) name rank, instruction and what is wrong with it: what a rule forbids, what does not match that of
// another rank, who waits for whom for ever. REQUIRES: a list for each rank of plan.mesh; check(plan) succeeds.
Result<Simulation> simulate(const StepPlan& plan, std::span<const Program> programs, const Duration& duration);
Result<Simulation> simulate(const StepPlan& plan, std::span<const Program> programs);  // nothing takes time

}  // namespace troupe::parallel
