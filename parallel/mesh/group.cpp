#include "parallel/mesh/group.h"

#include <array>
#include <span>

namespace troupe::parallel {
namespace {

constexpr std::array kWorld{Axis::pipeline, Axis::data, Axis::context, Axis::tensor};
constexpr std::array kPipeline{Axis::pipeline};
constexpr std::array kContext{Axis::context};
constexpr std::array kTensor{Axis::tensor};
constexpr std::array kSequence{Axis::context, Axis::tensor};
constexpr std::array kReplicas{Axis::data, Axis::context};
constexpr std::array kStage{Axis::data, Axis::context, Axis::tensor};
constexpr std::array kExpert{Axis::expert};
constexpr std::array kExpertTensor{Axis::expert_tensor};
constexpr std::array kExpertReplicas{Axis::expert_data};
constexpr std::array kExpertShares{Axis::expert_data, Axis::expert_tensor};

// The axes that the ranks of a group differ in. Ends and shared heads are parts of such a group.
std::span<const Axis> axes_of(Group group) {
  switch (group) {
    case Group::world: return kWorld;
    case Group::pipeline:
    case Group::ends: return kPipeline;
    case Group::context: return kContext;
    case Group::tensor: return kTensor;
    case Group::sequence: return kSequence;
    case Group::replicas: return kReplicas;
    case Group::shared_heads:
    case Group::stage: return kStage;
    case Group::expert: return kExpert;
    case Group::expert_tensor: return kExpertTensor;
    case Group::expert_replicas: return kExpertReplicas;
    case Group::expert_shares: return kExpertShares;
  }
  return kWorld;
}

}  // namespace

std::string_view name_of(Group group) {
  constexpr std::array<std::string_view, kGroups> names{
      "world",        "pipeline", "ends",   "context",       "tensor",      "sequence",     "data",
      "shared heads", "stage",    "expert", "expert tensor", "expert data", "expert shares"};
  return names[static_cast<size_t>(group)];
}

int size_of(Group group, const MeshSizes& sizes) {
  if (group == Group::ends) return sizes.pipeline > 1 ? 2 : 1;
  if (group == Group::shared_heads) return sizes.data * sizes.context * sizes.kv_sharing;
  int size = 1;
  for (Axis axis : axes_of(group)) size *= sizes[axis];
  return size;
}

std::optional<GroupPlace> place_in(Group group, const Mesh& mesh) {
  Mesh::Place place = mesh.place(axes_of(group));
  const MeshSizes& sizes = mesh.sizes();
  if (group == Group::ends && place.rank > 0) {
    if (place.rank < sizes.pipeline - 1) return {};
    place.rank = 1;
  }
  if (group == Group::shared_heads) {
    // A stage falls into as many groups as there are pieces of tensor ranks that share.
    const int tensor = mesh.rank(Axis::tensor), sharing = sizes.kv_sharing, pieces = sizes.tensor / sharing;
    place.group = place.group * pieces + tensor / sharing;
    place.rank = place.rank / sizes.tensor * sharing + tensor % sharing;
  }
  return GroupPlace{place.group, place.rank};
}

std::vector<int> ranks_of(Group group, const MeshSizes& sizes, int rank) {
  const auto mine = place_in(group, Mesh(sizes, rank));
  std::vector<int> ranks;
  for (int other = 0; mine && other < sizes.ranks(); ++other) {
    const auto place = place_in(group, Mesh(sizes, other));
    if (place && place->group == mine->group) ranks.push_back(other);
  }
  return ranks;
}

}  // namespace troupe::parallel
