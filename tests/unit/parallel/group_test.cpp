#include "parallel/mesh/group.h"

#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

TEST(Group, RanksAreThoseThatDifferInItsAxesAlone) {
  const MeshSizes sizes{.pipeline = 2, .data = 2, .tensor = 2, .expert = 4};
  EXPECT_EQ(ranks_of(Group::pipeline, sizes, 6), (std::vector<int>{2, 6}));
  EXPECT_EQ(ranks_of(Group::replicas, sizes, 6), (std::vector<int>{4, 6}));
  EXPECT_EQ(ranks_of(Group::tensor, sizes, 6), (std::vector<int>{6, 7}));
  EXPECT_EQ(ranks_of(Group::stage, sizes, 6), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(ranks_of(Group::expert, sizes, 1), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(ranks_of(Group::expert_replicas, sizes, 1), (std::vector<int>{1}));
  EXPECT_EQ(ranks_of(Group::context, sizes, 3), (std::vector<int>{3}));
  EXPECT_EQ(ranks_of(Group::world, sizes, 3).size(), 8u);
}

TEST(Group, EndsAreTheFirstAndTheLastStage) {
  EXPECT_EQ(ranks_of(Group::ends, {.pipeline = 3, .data = 2}, 1), (std::vector<int>{1, 5}));
  EXPECT_EQ(ranks_of(Group::ends, {.pipeline = 3, .data = 2}, 5), (std::vector<int>{1, 5}));
  EXPECT_TRUE(ranks_of(Group::ends, {.pipeline = 3, .data = 2}, 3).empty());
  EXPECT_EQ(ranks_of(Group::ends, {.data = 2}, 1), (std::vector<int>{1}));
}

TEST(Group, NeighboursOnTensorShareHeadsWithTheSameOfAllReplicas) {
  const MeshSizes sizes{.data = 2, .tensor = 4, .kv_sharing = 2};
  EXPECT_EQ(ranks_of(Group::shared_heads, sizes, 3), (std::vector<int>{2, 3, 6, 7}));
  EXPECT_EQ(ranks_of(Group::shared_heads, sizes, 4), (std::vector<int>{0, 1, 4, 5}));
}

TEST(Group, ExpertSharesHoldTheSameOfTheSameExperts) {
  const MeshSizes sizes{.data = 8, .expert = 2, .expert_tensor = 2};
  EXPECT_EQ(ranks_of(Group::expert_shares, sizes, 0), (std::vector<int>{0, 1, 4, 5}));
  EXPECT_EQ(ranks_of(Group::expert_replicas, sizes, 0), (std::vector<int>{0, 4}));
}

TEST(Group, SizesAreThoseOfTheRanks) {
  for (const MeshSizes& sizes :
       {MeshSizes{.pipeline = 2, .data = 3, .context = 1, .tensor = 2, .expert = 3, .expert_tensor = 2},
        MeshSizes{.pipeline = 2, .context = 3, .tensor = 4, .expert = 2, .kv_sharing = 2}}) {
    for (int g = 0; g < kGroups; ++g) {
      const auto group = static_cast<Group>(g);
      for (int rank = 0; rank < sizes.ranks(); ++rank)
        EXPECT_EQ(ranks_of(group, sizes, rank).size(), static_cast<size_t>(size_of(group, sizes))) << name_of(group);
    }
  }
}

}  // namespace
}  // namespace troupe::parallel
