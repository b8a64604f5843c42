#include "parallel/mesh/mesh.h"

namespace troupe::parallel {

std::string_view name_of(Axis axis) {
  constexpr std::array<std::string_view, kAxes> names{"pipeline", "data", "context", "tensor"};
  return names[static_cast<size_t>(axis)];
}

Mesh::Mesh(std::array<int, kAxes> sizes, int rank) : sizes_(sizes), rank_(rank) {
  for (int size : sizes_) TROUPE_CHECK(size >= 1, "a mesh axis of size {}", size);
  TROUPE_CHECK(rank >= 0 && rank < world_size(), "rank {} of {}", rank, world_size());
}

int Mesh::world_size() const {
  int product = 1;
  for (int size : sizes_) product *= size;
  return product;
}

int Mesh::rank(Axis axis) const {
  int stride = 1;
  for (int i = kAxes - 1; i > static_cast<int>(axis); --i) stride *= sizes_[static_cast<size_t>(i)];
  return rank_ / stride % size(axis);
}

}  // namespace troupe::parallel
