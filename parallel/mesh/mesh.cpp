#include "parallel/mesh/mesh.h"

#include <algorithm>
#include <array>
#include <span>

namespace troupe::parallel {
namespace {

constexpr std::array kDense{Axis::pipeline, Axis::data, Axis::context, Axis::tensor};
constexpr std::array kExperts{Axis::pipeline, Axis::expert_data, Axis::expert, Axis::expert_tensor};

// The arrangement that an axis belongs to.
std::span<const Axis> arrangement_of(Axis axis) {
  return std::ranges::find(kDense, axis) != kDense.end() ? std::span(kDense) : std::span(kExperts);
}

}  // namespace

std::string_view name_of(Axis axis) {
  constexpr std::array<std::string_view, kAxes> names{"pipeline",    "data",   "context",      "tensor",
                                                      "expert_data", "expert", "expert_tensor"};
  return names[static_cast<size_t>(axis)];
}

int MeshSizes::operator[](Axis axis) const {
  switch (axis) {
    case Axis::pipeline: return pipeline;
    case Axis::data: return data;
    case Axis::context: return context;
    case Axis::tensor: return tensor;
    case Axis::expert_data: return expert_data();
    case Axis::expert: return expert;
    case Axis::expert_tensor: return expert_tensor;
  }
  return 1;
}

std::string MeshSizes::to_string() const {
  std::string dense, experts;
  const auto add = [this](std::string& to, Axis axis, std::string_view joint) {
    const int size = (*this)[axis];
    if (size > 1) to += fmt::format("{}{} {}", to.empty() ? "" : joint, name_of(axis), size);
  };
  for (Axis axis : kDense) add(dense, axis, " × ");
  for (Axis axis : {Axis::expert, Axis::expert_tensor}) add(experts, axis, " × ");
  if (dense.empty()) return "one rank";
  return experts.empty() ? dense : dense + ", " + experts;
}

Mesh::Mesh(MeshSizes sizes, int rank) : sizes_(sizes), rank_(rank) {
  for (Axis axis : kDense) TROUPE_CHECK(size(axis) >= 1, "a mesh axis of size {}", size(axis));
  TROUPE_CHECK(sizes.expert >= 1 && sizes.expert_tensor >= 1, "a mesh axis of size {}",
               std::min(sizes.expert, sizes.expert_tensor));
  TROUPE_CHECK(sizes.stage_ranks() % (sizes.expert * sizes.expert_tensor) == 0, "{} expert ranks in a stage of {}",
               sizes.expert * sizes.expert_tensor, sizes.stage_ranks());
  TROUPE_CHECK(sizes.kv_sharing >= 1 && sizes.tensor % sizes.kv_sharing == 0, "{} of {} tensor ranks share their heads",
               sizes.kv_sharing, sizes.tensor);
  TROUPE_CHECK(rank >= 0 && rank < world_size(), "rank {} of {}", rank, world_size());
}

int Mesh::rank(Axis axis) const {
  const std::span<const Axis> axes = arrangement_of(axis);
  int stride = 1;
  for (size_t i = axes.size(); axes[i - 1] != axis; --i) stride *= size(axes[i - 1]);
  return rank_ / stride % size(axis);
}

Mesh::Place Mesh::place(std::span<const Axis> axes) const {
  TROUPE_CHECK(!axes.empty(), "a group over no axis");
  // The pipeline belongs to both arrangements; any other axis tells which it is.
  const std::span<const Axis> all = arrangement_of(axes.back());
  Place place;
  size_t found = 0;
  for (Axis axis : all) {
    const bool within = std::ranges::find(axes, axis) != axes.end();
    int& index = within ? place.rank : place.group;
    index = index * size(axis) + rank(axis);
    if (within) place.size *= size(axis), ++found;
  }
  TROUPE_CHECK(found == axes.size(), "a group over axes of two arrangements");
  return place;
}

}  // namespace troupe::parallel
