// What ranks send one another in a step, collective by collective: what the product does, not what a library might.
//
//   tensor    with sequence parallel. A block gathers the input of attention and of the feed-forward from the shards of
//             the sequence, and reduce-scatters the output of both; backward does the same to the gradients, and
//             gathers the inputs again for the gradients of the weights. The embedding's output is reduce-scattered,
//             the head's input gathered; the loss gathers two numbers a token. Sums are as wide as the residual stream.
//   context   keys and values go round a ring; in backward again, and their gradients (f32) home.
//   expert    a token's k rows are dispatched to their experts and combined, all to all, forward and backward; over
//             expert_tensor ranks they are gathered and reduce-scattered like tensor parallel's.
//   pipeline  the residual stream to the next chunk, its gradient back.
//   data      gradients (f32) summed over those who hold the same: all-reduced at the end of the step under ZeRO 0,
//             reduce-scattered then under 1, of each microbatch under 2 and 3. What is computed with is gathered after
//             the optimizer under 1 and 2, and by each microbatch's forward and again by its backward under 3. Who
//             holds the same (plan/state.h): of matrices data × context, of norms all of a stage, of keys' and values'
//             heads also those who share them, of experts expert_data.
//
// A rank sends (n − 1)/n of a whole in an all-gather, reduce-scatter or all-to-all of n ranks, twice that in an
// all-reduce.
#pragma once
#include <string_view>
#include <vector>

#include "parallel/plan/kernel_time.h"
#include "parallel/plan/memory.h"

namespace troupe::parallel {

enum class Collective : uint8_t { all_gather, reduce_scatter, all_reduce, all_to_all, ring, send };
std::string_view name_of(Collective collective);  // "all-gather"

// When it happens: beside the computation of which pass. `gradients` and `parameters` are those of ZeRO and data
// parallel.
enum class Moment : uint8_t { forward, backward, gradients, parameters };

std::string_view name_of(Moment moment);

struct Transfer {
  Group group = Group::tensor;
  Collective collective = Collective::all_gather;
  Moment moment = Moment::forward;
  double bytes = 0;  // that a rank sends in one operation
  double count = 1;  // operations
};
using Transfers = std::vector<Transfer>;

// Of one microbatch, by where in the model.
struct MicrobatchTraffic {
  Transfers dense_block, sparse_block;
  Transfers embedding, head;
  Transfers boundary;  // of one virtual stage with its neighbours: both ways
};
MicrobatchTraffic microbatch_traffic(const DecoderConfig& config, Numerics numerics, const Layout& layout,
                                     const StepShape& shape, Recompute recompute);
// Of gradients and parameters that a rank holds: each operation once, however often the step has it; see
// state_operations().
Transfers state_traffic(const HeldModel& held, const StageLayers& layers, const Layout& layout, Numerics numerics);
// How often: once a step, or once a microbatch.
double state_operations(const Layout& layout, Moment moment, int64_t microbatches);

// All that a rank of a stage sends in a step; equal operations are one entry. REQUIRES: as held_model().
Transfers step_traffic(const DecoderConfig& config, Numerics numerics, const Layout& layout, const StepShape& shape,
                       Recompute recompute, int stage);

// Ranks and links of a group.
Links links_of(const DeviceSpec& device, const MeshSizes& mesh, Group group);
// How long all operations of a transfer take, one after the other.
double transfer_seconds(const DeviceSpec& device, const MeshSizes& mesh, const Transfer& transfer);

}  // namespace troupe::parallel
