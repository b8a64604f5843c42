// Placement: which part of a global tensor each rank of a mesh holds.
//
// Ranks that hold the same part are replicas of one another. What each of them finds as the part's gradient is its own
// share of it, from its own tokens or heads: the gradient is the sum over all replicas, on every layout. One group of
// ranks joins the replicas of a stage, whatever the parameter; the two ends of a pipeline may hold a tied table beside.
#pragma once
#include <array>

#include "kernels/tensor/tensor.h"
#include "parallel/mesh/group.h"

namespace troupe::parallel {

using kernels::Shape;

// For each mesh axis, the dimension of the global shape that the axis splits, or -1: replicated.
struct Placement {
  std::array<int, kAxes> dimension{-1, -1, -1, -1, -1, -1, -1};
  // Heads of keys and values: neighbours on the tensor axis may share a piece (MeshSizes::kv_sharing).
  bool shared = false;
  // The dimension need not be a multiple of the pieces: behind the last element stand zeros, in memory only.
  bool padded = false;

  static Placement replicated() { return {}; }
  static Placement split(Axis axis, int along) { return Placement().and_split(axis, along); }
  Placement and_split(Axis axis, int along) const {
    Placement placement = *this;
    placement.dimension[static_cast<size_t>(axis)] = along;
    return placement;
  }
  int on(Axis axis) const { return dimension[static_cast<size_t>(axis)]; }
  bool splits(Axis axis) const { return on(axis) >= 0; }
  // Whether the ranks of a stage are those of the experts' arrangement.
  bool of_experts() const { return splits(Axis::expert) || splits(Axis::expert_tensor) || splits(Axis::expert_data); }

  // The ranks of a stage that hold the same part.
  Group replicas() const;
};

// One rank's part.
class Region {
 public:
  // REQUIRES: a dimension is split by one axis at most, evenly unless padded.
  Region(const Shape& global, const Placement& placement, const Mesh& mesh);

  const Shape& global() const { return global_; }
  const Shape& local() const { return local_; }  // in memory, padding included
  // Along a dimension: the global index of this part's first element, and how many elements of the whole it has.
  int64_t begin(int along) const { return begin_[static_cast<size_t>(along)]; }
  int64_t size(int along) const { return size_[static_cast<size_t>(along)]; }
  bool whole() const { return local_ == global_; }

  // Where in the whole the local element stands; -1: it is padding. Indices into row-major elements.
  int64_t global_index(int64_t local) const;

 private:
  Shape global_, local_;
  std::array<int64_t, Shape::kMaxDims> begin_{}, size_{};
};

}  // namespace troupe::parallel
