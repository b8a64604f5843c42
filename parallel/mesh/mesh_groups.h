// The groups of ranks that one rank belongs to: a communicator for each kind. A group of one moves nothing.
#pragma once
#include <array>
#include <memory>
#include <string>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/group.h"

namespace troupe::parallel {

class MeshGroups {
 public:
  MeshGroups();  // one rank
  // Splits `world`, which outlives the groups: all its ranks call this with meshes of the same sizes, each with its own
  // rank. Blocks. Throws CommunicationError. REQUIRES: world's rank and size are the mesh's.
  MeshGroups(const Mesh& mesh, Communicator& world);

  const Mesh& mesh() const { return mesh_; }
  // REQUIRES: this rank is in such a group.
  Communicator& operator[](Group group) const;

  // As Communicator's, of all of them. The world's operations are told to whom its owner says.
  std::string under_way() const;
  void trace_to(TraceSink* sink) const;

 private:
  std::unique_ptr<Communicator> alone_;  // a world of one rank
  const Mesh mesh_;
  Communicator* world_;
  std::array<std::unique_ptr<Communicator>, kGroups> groups_;  // null: the world, or this rank is in none
};

}  // namespace troupe::parallel
