// From a plan to what each rank does. How an executor uses it:
//
//   StepPlan plan{.mesh = …, .blocks = divide_layers(…), .units = …};  // the same numbers on every rank, but for units
//   TROUPE_TRY(check(plan));                                           // of others, which may be empty
//   const Program program = instructions(plan, rank);                  // once; the same in every step
//
//   for (const Instruction& i : program) {
//     switch (i.action) { … }                                          // the table in instruction.h
//   }
//
// where what `start` began is kept under the instruction until its `finish`.
#pragma once
#include "parallel/schedule/step_plan.h"

namespace troupe::parallel {

// What `rank` does in a step. REQUIRES: check() succeeds.
//
// Receives are started one pass before the one that needs them; a send is finished before the next of its kind starts.
// ZeRO 3 starts to gather a unit before the one ahead of it runs: two are whole at a time. Gradients are reduced as
// soon as they are complete, and waited for after the next backward. What would be gathered or reduced in a group of
// one rank is left out. All ranks of a group start its collectives in the same order, and those of all groups in orders
// that agree: they may run one after another on one stream of each rank.
Program instructions(const StepPlan& plan, int rank);
// Of all ranks.
std::vector<Program> all_instructions(const StepPlan& plan);

}  // namespace troupe::parallel
