// The kinds of groups that ranks of a mesh form: one for each set of axes over which something is summed or moved.
// Plain numbers, so that a schedule can name a group before there is anything to communicate with; MeshGroups has the
// communicators.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "parallel/mesh/mesh.h"

namespace troupe::parallel {

enum class Group : uint8_t {
  world,
  pipeline,  // rank: the stage
  ends,      // the first and the last stage of a pipeline, which both hold a tied embedding
  context,
  tensor,
  sequence,      // context × tensor: have the tokens of the same sequences
  replicas,      // data × context: hold the same of what tensor parallelism splits, each with tokens of its own
  shared_heads,  // the same and those neighbours on tensor that share heads of keys and values
  stage,         // data × context × tensor: a whole stage; all hold the same of what tensor parallelism does not split
  expert,
  expert_tensor,
  expert_replicas,  // expert_data: hold the same part of the same experts
  expert_shares,    // expert_data × expert_tensor: hold the same of what is not split within an expert
};
constexpr int kGroups = 13;
std::string_view name_of(Group group);  // of its communicator, too

int size_of(Group group, const MeshSizes& sizes);
// Which of all groups of that kind a rank is in, and its place there. None: an inner stage is in no group of ends.
struct GroupPlace {
  int group = 0, rank = 0;
};
std::optional<GroupPlace> place_in(Group group, const Mesh& mesh);
// The ranks of the group of that kind that `rank` is in, ascending. None: as place_in().
std::vector<int> ranks_of(Group group, const MeshSizes& sizes, int rank);

}  // namespace troupe::parallel
