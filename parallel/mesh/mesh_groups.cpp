#include "parallel/mesh/mesh_groups.h"

namespace troupe::parallel {

MeshGroups::MeshGroups() : alone_(make_self_communicator("world")), world_(alone_.get()) {
  for (int g = 1; g < kGroups; ++g)
    groups_[static_cast<size_t>(g)] = make_self_communicator(std::string(name_of(static_cast<Group>(g))));
}

MeshGroups::MeshGroups(const Mesh& mesh, Communicator& world) : mesh_(mesh), world_(&world) {
  TROUPE_CHECK(world.rank() == mesh.rank() && world.size() == mesh.world_size(), "rank {} of {} on a mesh as {} of {}",
               world.rank(), world.size(), mesh.rank(), mesh.world_size());
  for (int g = 1; g < kGroups; ++g) {
    const Group group = static_cast<Group>(g);
    std::unique_ptr<Communicator>& communicator = groups_[static_cast<size_t>(g)];
    const std::string name(name_of(group));
    // Every rank of the world finds the same size, so all or none of them split.
    if (size_of(group, mesh.sizes()) == 1) {
      communicator = make_self_communicator(name);
      continue;
    }
    const std::optional<GroupPlace> place = place_in(group, mesh);
    communicator = world.split(place ? place->group : -1, place ? place->rank : 0, name);
  }
}

Communicator& MeshGroups::operator[](Group group) const {
  if (group == Group::world) return *world_;
  const auto& communicator = groups_[static_cast<size_t>(group)];
  TROUPE_CHECK(communicator, "rank {} is in no group of {}", mesh_.rank(), name_of(group));
  return *communicator;
}

std::string MeshGroups::under_way() const {
  std::string all = world_->under_way();
  for (const auto& group : groups_) {
    const std::string waits = group ? group->under_way() : "";
    if (!waits.empty()) all += (all.empty() ? "" : "; ") + waits;
  }
  return all;
}

void MeshGroups::trace_to(TraceSink* sink) const {
  for (const auto& group : groups_) {
    if (group) group->trace_to(sink, *world_);
  }
}

}  // namespace troupe::parallel
