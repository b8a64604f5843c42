// Expert parallelism: rows go to the ranks of their experts, and what those make of them comes back. Dropless: how many
// rows each expert gets is told first, and none is too many or too few.   Lepikhin et al. 2020 (GShard), section 3;
// Gale et al. 2022 (MegaBlocks).
//
// A rank's rows go over the expert group to the rank that has their expert. Where experts are themselves divided, the
// ranks of that expert_tensor group gather each other's rows, compute partial results for all of them, and sum these in
// the order of ranks; these travel as they are summed, in f32 under bf16, and are rounded once. Backward does the same
// the other way round. All ranks of a stage take part in everything, with no rows too: forward all_to_all of counts,
// [all_gather of counts], all_to_all of rows, [all_gather of rows], then [reduce_scatter of results], all_to_all of
// results; [only where experts are divided].
#pragma once
#include <vector>

#include "kernels/autograd/tape.h"
#include "parallel/mesh/mesh_groups.h"

namespace troupe::parallel {

class ExpertExchange {
 public:
  // counts [E]: this rank's rows of each expert. Communicates; called by all ranks of a stage. `groups` outlives it.
  ExpertExchange(MeshGroups& groups, kernels::Device& device, const std::vector<int64_t>& counts);

  // rows [R, D] by expert → [offsets().back(), D]: those of this rank's experts, by expert, then by rank of the
  // expert_tensor group, of the expert group, and as they stand there; wide (accumulator_of()) where experts are
  // divided, for the sake of their gradients. Communicates, in backward too.
  kernels::Value dispatch(kernels::Tape&, const kernels::Value& rows) const;
  // What became of them, wide where experts are divided → [R, D] of dtype `output`, where they came from. Communicates,
  // in backward too.
  kernels::Value collect(kernels::Tape&, const kernels::Value& results, kernels::DType output) const;
  // Whether results are partial sums.
  bool divided() const { return expert_tensor_.size() > 1; }
  // [experts of this rank + 1]: where each one's rows begin.
  const std::vector<int64_t>& offsets() const { return offsets_; }

 private:
  Communicator& expert_;
  Communicator& expert_tensor_;
  std::vector<int64_t> sent_, received_;  // rows, by rank of the expert group
  int64_t arrived_ = 0;                   // sum of received_
  int64_t most_ = 0;                      // rows that arrived at one rank of the expert_tensor group
  std::vector<int64_t> offsets_;
  // Of all rows of the expert_tensor group, most_ places for each rank. i32; undefined: they come by expert.
  kernels::Tensor by_expert_, places_;
};

}  // namespace troupe::parallel
