#include "parallel/mesh/placement.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace troupe::parallel {
namespace {

bool first_replica(const Placement& placement, const Mesh& mesh) {
  return place_in(placement.replicas(), mesh)->rank == 0;
}

// How many first replicas hold each element of the whole, over all ranks of one stage; [-1]: padding.
std::map<int64_t, int> holders(const Shape& shape, const Placement& placement, const MeshSizes& sizes) {
  std::map<int64_t, int> count;
  for (int rank = 0; rank < sizes.stage_ranks(); ++rank) {
    const Mesh mesh(sizes, rank);
    const Region region(shape, placement, mesh);
    if (!first_replica(placement, mesh)) continue;
    for (int64_t i = 0; i < region.local().elements(); ++i) ++count[region.global_index(i)];
  }
  return count;
}

TEST(Region, FirstReplicasHoldEveryElementOnce) {
  const MeshSizes sizes{.data = 2, .context = 2, .tensor = 4, .expert = 2, .expert_tensor = 4, .kv_sharing = 2};
  const Shape shape{8, 4, 12};
  Placement heads = Placement::split(Axis::tensor, 0);
  heads.shared = true;
  for (const Placement& placement :
       {Placement::replicated(), Placement::split(Axis::tensor, 0), Placement::split(Axis::tensor, 2), heads,
        Placement::split(Axis::expert, 0), Placement::split(Axis::expert, 0).and_split(Axis::expert_tensor, 2)}) {
    const std::map<int64_t, int> count = holders(shape, placement, sizes);
    EXPECT_EQ(static_cast<int64_t>(count.size()), shape.elements());
    for (const auto& [index, times] : count) EXPECT_EQ(times, 1) << index;
  }
}

TEST(Region, NeighboursShareAPieceWhereThereAreFewerPiecesThanRanks) {
  Placement heads = Placement::split(Axis::tensor, 0);
  heads.shared = true;
  std::vector<int64_t> begins;
  std::vector<bool> first;
  for (int rank = 0; rank < 4; ++rank) {
    const Mesh mesh({.tensor = 4, .kv_sharing = 2}, rank);
    const Region region({6, 5}, heads, mesh);
    EXPECT_EQ(region.local(), (Shape{3, 5}));
    begins.push_back(region.begin(0));
    first.push_back(first_replica(heads, mesh));
  }
  EXPECT_EQ(begins, (std::vector<int64_t>{0, 0, 3, 3}));
  EXPECT_EQ(first, (std::vector<bool>{true, false, true, false}));
}

TEST(Region, PaddingStandsBehindTheLastElementOfTheWhole) {
  Placement rows = Placement::split(Axis::tensor, 0);
  EXPECT_THROW(Region({5, 2}, rows, Mesh({1, 1, 1, 4}, 0)), CheckFailure);
  rows.padded = true;
  // Pieces of two rows: the third has one, the last none.
  const std::vector<int64_t> sizes{2, 2, 1, 0};
  for (int rank = 0; rank < 4; ++rank) {
    const Region region({5, 2}, rows, Mesh({1, 1, 1, 4}, rank));
    EXPECT_EQ(region.local(), (Shape{2, 2}));
    EXPECT_EQ(region.size(0), sizes[static_cast<size_t>(rank)]);
  }
  const std::map<int64_t, int> count = holders({5, 2}, rows, {.tensor = 4});
  EXPECT_EQ(count.at(-1), 6);
  EXPECT_EQ(count.size(), 11u);
}

TEST(Region, OneDimensionIsSplitByOneAxis) {
  const Placement twice = Placement::split(Axis::expert, 0).and_split(Axis::expert_tensor, 0);
  EXPECT_THROW(Region({8, 2}, twice, Mesh({.data = 4, .expert = 2, .expert_tensor = 2}, 0)), CheckFailure);
}

}  // namespace
}  // namespace troupe::parallel
