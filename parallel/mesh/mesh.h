// Mesh: how the ranks of a job are arranged. The model is written against one; a single device is a mesh of size 1.
//
// A stage of the pipeline arranges its ranks twice: as data × context × tensor for all that is dense, and as
// expert_data × expert × expert_tensor for experts. The products of both are the same, so the axes of one need not
// divide those of the other: eight ranks may be 2 × 1 × 4 for attention and 1 × 8 × 1 for experts.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/check.h"

namespace troupe::parallel {

// In each arrangement from the slowest-varying to the fastest: tensor ranks are neighbours.
enum class Axis : uint8_t { pipeline, data, context, tensor, expert_data, expert, expert_tensor };
constexpr int kAxes = 7;
std::string_view name_of(Axis axis);

struct MeshSizes {
  int pipeline = 1, data = 1, context = 1, tensor = 1;
  int expert = 1, expert_tensor = 1;
  // Neighbours on the tensor axis that have the same heads of keys and values, where a model has fewer of those than
  // there are ranks. Divides tensor.
  int kv_sharing = 1;

  int stage_ranks() const { return data * context * tensor; }
  int ranks() const { return pipeline * stage_ranks(); }
  int expert_data() const { return stage_ranks() / (expert * expert_tensor); }
  int operator[](Axis axis) const;
  // "pipeline 2 × data 4 × tensor 2, expert 4": axes of size 1 are left out; "one rank".
  std::string to_string() const;
  bool operator==(const MeshSizes&) const = default;
};

class Mesh {
 public:
  // One rank, size 1 on every axis.
  Mesh() : Mesh(MeshSizes(), 0) {}
  // REQUIRES: sizes ≥ 1; expert · expert_tensor divides the ranks of a stage; 0 ≤ rank < sizes.ranks().
  Mesh(MeshSizes sizes, int rank);

  const MeshSizes& sizes() const { return sizes_; }
  int world_size() const { return sizes_.ranks(); }
  int rank() const { return rank_; }
  int size(Axis axis) const { return sizes_[axis]; }
  int rank(Axis axis) const;  // this rank's coordinate

  // The ranks that differ from this one on nothing but `axes`, in ascending order: which of all such groups this rank
  // is in, and its place there. REQUIRES: one arrangement's axes, in the order of Axis.
  struct Place {
    int group = 0, rank = 0, size = 1;
  };
  Place place(std::span<const Axis> axes) const;
  Place place(std::initializer_list<Axis> axes) const { return place(std::span(axes.begin(), axes.size())); }

 private:
  MeshSizes sizes_;
  int rank_;
};

}  // namespace troupe::parallel
