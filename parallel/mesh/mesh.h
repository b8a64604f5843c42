// Mesh: how the ranks of a job are arranged. The model is written against one; a single device is a
// mesh of size 1.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "runtime/base/check.h"

namespace troupe::parallel {

// From the slowest-varying to the fastest: tensor ranks are neighbours.
enum class Axis : uint8_t { pipeline, data, context, tensor };
constexpr int kAxes = 4;
std::string_view name_of(Axis axis);

class Mesh {
 public:
  // One rank, size 1 on every axis.
  Mesh() : Mesh({1, 1, 1, 1}, 0) {}
  // REQUIRES: sizes ≥ 1; 0 ≤ rank < product of sizes.
  Mesh(std::array<int, kAxes> sizes, int rank);

  int world_size() const;
  int rank() const { return rank_; }
  int size(Axis axis) const { return sizes_[static_cast<size_t>(axis)]; }
  int rank(Axis axis) const;  // this rank's coordinate

 private:
  std::array<int, kAxes> sizes_;
  int rank_;
};

}  // namespace troupe::parallel
