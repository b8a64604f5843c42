// Instruction: one thing that a rank does in a step. Its list names everything, computing and communication, in order:
// an executor is a loop over it with a switch, and decides nothing about order. simulate.h proves the lists of all
// ranks before they run.
//
// What a rank runs is named by microbatch, virtual stage (which of its chunks) and unit (which part of the model:
// step_plan.h). A chunk's forward is one instruction for each of its units, ascending; its backward, descending.
//
// Whatever communicates is there twice: `start` begins an operation (Pending) that needs nothing but the others' start,
// `finish` waits for it. The two differ in nothing but the phase, so that started() finds the one by the other. Between
// them the operation's tensors belong to it. `inside` alone is begun and waited for at once, by the layer.
//
//   action              what the executor does
//   forward             unit 0 takes the microbatch's tokens; the first unit of any other chunk what receive_activation
//                       brought; every other unit the result of the one before. The last unit returns the summed loss.
//                       The unit's tape is kept for backward. Without training nothing is kept.
//   backward            runs the unit's tape, from the loss (last unit of all), from what receive_gradient brought
//                       (last unit of a chunk), or from the gradient of the unit behind. `part` is what of it: inputs
//                       may go on to the stage before, and weights be computed later. Gradients of parameters are
//                       added up locally, in full. The tape is freed with the last part.
//   send_activation     the result of the chunk's last unit, to the stage of the next chunk. Finished: it may be freed.
//   receive_activation  into a new buffer; finished: input of the chunk's first unit. Started one pass early.
//   send_gradient       of the chunk's first input, to the stage of the chunk before.
//   receive_gradient    of the result of the chunk's last unit.
//   gather_parameters   all-gather of a bucket of a unit from its shards. ZeRO 3: before every use, one unit ahead.
//                       ZeRO 1, 2: after the update.
//   release_parameters  ZeRO 3: drops what was gathered of a unit; the shards stay.
//   reduce_gradients    sums a bucket's gradients over the ranks that hold the same. ZeRO 0: all_reduce, 1–3:
//                       reduce_scatter to the shards' owners. ZeRO 0, 1: once, after the last microbatch (microbatch
//                       is -1). ZeRO 2, 3: after every microbatch; finished: add the shard to the shard's accumulator
//                       (f32, ascending microbatches), free the full gradient.
//   sum_tied_gradients  the tied table's gradient, as reduce_gradients left it (its shard, or all of it), over the
//                       first and the last stage, which both hold it and make the same update.
//   sum_expert_loads    how many tokens each expert got in this step (i64), for the bias that balances them.
//   sum_totals          what the step has found, over all ranks: losses, squares of the gradient's norm (every
//                       parameter once: the last stage leaves out a tied table), whether something is not finite.
//                       Of a validation batch: its losses. Finished: nothing is under way, and nothing is updated
//                       yet, so what is not finite may end the list here, on all ranks.
//   update              the optimizer's step of the unit's parameters, or of its shards; forgets their gradients.
//   inside              nothing: a collective that the layers of the unit issue and wait for by themselves, in the
//                       forward or backward that stands before it.
//
// Groups of one rank are left out of all this, but for sum_expert_loads and sum_totals, which the executor needs as the
// place where it uses what it has counted: a communicator of one rank moves nothing, and a rank alone has all of it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/autograd/tape.h"
#include "parallel/comm/request.h"
#include "parallel/mesh/group.h"

namespace troupe::parallel {

using kernels::GradientPart;

enum class Action : uint8_t {
  forward,
  backward,
  send_activation,
  receive_activation,
  send_gradient,
  receive_gradient,
  gather_parameters,
  release_parameters,
  reduce_gradients,
  sum_tied_gradients,
  sum_expert_loads,
  sum_totals,
  update,
  inside,
};
std::string_view name_of(Action action);

enum class Phase : uint8_t { whole, start, finish };

// Numbers that an action has no use for are -1.
struct Instruction {
  Action action = Action::update;
  Phase phase = Phase::whole;
  GradientPart part = GradientPart::both;  // backward
  // Of what communicates: which of the Communicator's operations, in which of the rank's groups (MeshGroups[group]), of
  // how many elements, as Signature counts them: send, receive and all_reduce of the tensor, reduce_scatter and
  // all_gather of one rank's piece. 0: only the executor, or the layer, knows; the same on all ranks all the same, but
  // for all_to_all.
  OperationKind operation = OperationKind::barrier;
  Group group = Group::world;
  int64_t elements = 0;
  int peer = -1, tag = -1;  // messages: rank in the group, and tag
  int microbatch = -1;
  int virtual_stage = -1;
  int unit = -1;
  int bucket = -1;  // which of the unit's

  bool operator==(const Instruction&) const = default;

  bool computes() const { return action == Action::forward || action == Action::backward; }
  bool is_message() const { return communicates() && is_point_to_point(operation); }
  bool communicates() const { return phase != Phase::whole || action == Action::inside; }
  // What a `finish` is the end of.
  Instruction started() const {
    Instruction instruction = *this;
    instruction.phase = Phase::start;
    return instruction;
  }

  // "finish gather_parameters, unit 5, bucket 0: all_gather of 4096 in group "data"".
  std::string to_string() const;
};

// What one rank does in a step.
using Program = std::vector<Instruction>;

}  // namespace troupe::parallel
