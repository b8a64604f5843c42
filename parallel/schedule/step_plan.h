// StepPlan: all that decides in which order the ranks of a mesh compute and communicate in a step (instructions.h).
// Numbers only: no tensor, no communicator, no layer.
//
// The model is a row of units: 0 the embedding, 1 to L the blocks, L + 1 the final norm, the head and the loss. A unit
// is what runs between two places where something else may happen: what ZeRO 3 gathers at once, what a gradient is
// reduced by. Chunks are neighbouring units; with the embedding in the first and the head in the last of them.
#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "parallel/model/decoder_config.h"
#include "parallel/schedule/instruction.h"
#include "parallel/schedule/schedule.h"

namespace troupe::parallel {

// Parameters of a unit that the same ranks hold, flat: `group` is over whom their gradients are summed, and among whom
// ZeRO shards them. Group::replicas: split by tensor parallelism, or there is none; Group::stage: whole on each rank of
// a stage (norms, router); Group::expert_replicas: experts.
struct Bucket {
  Group group = Group::replicas;
  int64_t elements = 0;  // of one rank's part; ZeRO 1–3: padded to a multiple of the group

  bool operator==(const Bucket&) const = default;
};

// A collective inside a unit, of its attention or of what follows it.
struct InsideCollective {
  OperationKind operation = OperationKind::all_to_all;
  Group group = Group::expert;
  int64_t elements = 0;
  bool attention = false;

  bool operator==(const InsideCollective&) const = default;
};

struct Unit {
  std::vector<Bucket> buckets;
  // In the order in which the layers issue them; groups of one rank may be left out or not. What recomputing adds to
  // backward is not in here. Messages of layers among themselves (ring attention) are their own affair.
  std::vector<InsideCollective> inside_forward, inside_backward;
  int balanced_experts = 0;  // E of a block whose experts' loads are counted; else 0

  // A block with experts, what its router and routed experts issue (model/expert_exchange.h): tokens go to their
  // experts' ranks, results come back, and backward their gradients. How many go where is told first. Before all that
  // the router's statistics, where they are summed for a `balance_loss`. Shared experts run behind the routed ones, and
  // backward ahead of them.
  void add_expert_exchange(bool balance_loss = false);
};

struct StepPlan {
  MeshSizes mesh;
  Schedule schedule = Schedule::one_f_one_b;
  int virtual_stages = 1;
  int microbatches = 1;
  int zero = 0;
  Recompute recompute = Recompute::none;
  bool training = true;  // false: a validation batch, forward only; parameters are gathered with ZeRO 3 alone
  int64_t activation_elements = 0;  // of what goes from chunk to chunk: one microbatch's residual stream on one rank
  std::vector<int> blocks;          // of each chunk: divide_layers()
  std::vector<Unit> units;          // embedding, blocks, head
  // The head is the embedding's table: a bucket of its own, after the others of unit 0, and with more than one stage
  // after those of the last unit too. With one stage the last unit uses unit 0's.
  std::optional<Bucket> tied = {};

  Pipeline pipeline() const { return {schedule, mesh.pipeline, virtual_stages, microbatches}; }
  int last_unit() const { return static_cast<int>(units.size()) - 1; }
  // First and last unit of a chunk.
  std::pair<int, int> units_of(int chunk) const;
  std::vector<Bucket> buckets(int unit) const;
  // The units whose parameters a unit runs with: itself, and unit 0 where that has the head's table.
  std::vector<int> parameters_of(int unit) const;
};

// Errors (usage): check(Pipeline)'s, and a wrong parallel.zero. REQUIRES (CHECK): units, blocks and buckets fit
// together.
Status check(const StepPlan& plan);

}  // namespace troupe::parallel
