#include "parallel/mesh/placement.h"

#include <algorithm>
#include <vector>

namespace troupe::parallel {

Group Placement::replicas() const {
  if (of_experts()) {
    TROUPE_CHECK(splits(Axis::expert), "a part of the experts is split over the expert axis");
    return splits(Axis::expert_tensor) ? Group::expert_replicas : Group::expert_shares;
  }
  if (!splits(Axis::tensor)) return Group::stage;
  return shared ? Group::shared_heads : Group::replicas;
}

Region::Region(const Shape& global, const Placement& placement, const Mesh& mesh) : global_(global) {
  std::vector<int64_t> sizes(global.sizes().begin(), global.sizes().end());
  for (int i = 0; i < global.dims(); ++i) size_[static_cast<size_t>(i)] = global[i];
  for (int a = 0; a < kAxes; ++a) {
    const Axis axis = static_cast<Axis>(a);
    const int dimension = placement.on(axis);
    if (dimension < 0 || mesh.size(axis) == 1) continue;
    const auto d = static_cast<size_t>(dimension);
    const int sharing = placement.shared && axis == Axis::tensor ? mesh.sizes().kv_sharing : 1;
    const int pieces = mesh.size(axis) / sharing;
    TROUPE_CHECK(sizes[d] == global[dimension], "dimension {} of {} split by two axes", dimension, global.to_string());
    TROUPE_CHECK(placement.padded || global[dimension] % pieces == 0, "dimension {} of {} over {} {} ranks", dimension,
                 global.to_string(), pieces, name_of(axis));
    sizes[d] = (global[dimension] + pieces - 1) / pieces;
    begin_[d] = std::min(global[dimension], mesh.rank(axis) / sharing * sizes[d]);
    size_[d] = std::min(global[dimension] - begin_[d], sizes[d]);
  }
  local_ = Shape(sizes);
}

int64_t Region::global_index(int64_t local) const {
  int64_t index = 0, stride = 1;
  for (int i = local_.dims() - 1; i >= 0; --i) {
    const int64_t at = local % local_[i];
    if (at >= size(i)) return -1;
    index += (begin(i) + at) * stride;
    stride *= global_[i];
    local /= local_[i];
  }
  return index;
}

}  // namespace troupe::parallel
