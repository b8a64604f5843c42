#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace troupe::parallel {
namespace {

TEST(Mesh, IsOneRankByDefault) {
  const Mesh mesh;
  EXPECT_EQ(mesh.world_size(), 1);
  EXPECT_EQ(mesh.rank(), 0);
  for (Axis axis : {Axis::pipeline, Axis::data, Axis::context, Axis::tensor}) {
    EXPECT_EQ(mesh.size(axis), 1);
    EXPECT_EQ(mesh.rank(axis), 0);
  }
}

TEST(Mesh, CoordinatesAreTheDigitsOfTheRankWithTensorFastest) {
  const std::array<int, 4> sizes{3, 2, 5, 4};
  std::set<std::array<int, 4>> seen;
  for (int rank = 0; rank < 120; ++rank) {
    const Mesh mesh({3, 2, 5, 4}, rank);
    EXPECT_EQ(mesh.world_size(), 120);
    const std::array<int, 4> at{mesh.rank(Axis::pipeline), mesh.rank(Axis::data), mesh.rank(Axis::context),
                                mesh.rank(Axis::tensor)};
    EXPECT_EQ(((at[0] * 2 + at[1]) * 5 + at[2]) * 4 + at[3], rank);
    for (size_t i = 0; i < at.size(); ++i) EXPECT_TRUE(at[i] >= 0 && at[i] < sizes[i]) << rank;
    seen.insert(at);
  }
  EXPECT_EQ(seen.size(), 120u);
}

TEST(Mesh, RefusesAnEmptyAxisAndARankOutside) {
  EXPECT_THROW(Mesh({1, 0, 1, 1}, 0), CheckFailure);
  EXPECT_THROW(Mesh({1, 2, 1, 1}, 2), CheckFailure);
  EXPECT_THROW(Mesh({1, 2, 1, 1}, -1), CheckFailure);
}

// Eight ranks of a stage: 2 × 1 × 4 for what is dense, 2 × 2 × 2 for experts.
TEST(Mesh, ExpertsArrangeTheRanksOfAStageForThemselves) {
  const MeshSizes sizes{.pipeline = 2, .data = 2, .tensor = 4, .expert = 2, .expert_tensor = 2};
  EXPECT_EQ(sizes.ranks(), 16);
  EXPECT_EQ(sizes.expert_data(), 2);
  for (int rank = 0; rank < 16; ++rank) {
    const Mesh mesh(sizes, rank);
    EXPECT_EQ(mesh.rank(Axis::pipeline), rank / 8);
    EXPECT_EQ(mesh.rank(Axis::data), rank / 4 % 2);
    EXPECT_EQ(mesh.rank(Axis::tensor), rank % 4);
    EXPECT_EQ(mesh.rank(Axis::expert_data), rank / 4 % 2);
    EXPECT_EQ(mesh.rank(Axis::expert), rank / 2 % 2);
    EXPECT_EQ(mesh.rank(Axis::expert_tensor), rank % 2);
  }
}

// Every rank finds those that differ from it on the axes alone, in the same order as they do.
TEST(Mesh, GroupsAreThoseThatDifferOnTheirAxesAlone) {
  const MeshSizes sizes{.pipeline = 2, .data = 3, .context = 2, .tensor = 2, .expert = 6, .expert_tensor = 1};
  const std::vector<std::vector<Axis>> sets{
      {Axis::pipeline}, {Axis::data, Axis::context}, {Axis::tensor},        {Axis::data, Axis::context, Axis::tensor},
      {Axis::expert},   {Axis::expert_data},         {Axis::expert_tensor}, {Axis::data, Axis::tensor}};
  for (const std::vector<Axis>& axes : sets) {
    std::map<int, std::vector<int>> groups;
    for (int rank = 0; rank < sizes.ranks(); ++rank) {
      const Mesh::Place place = Mesh(sizes, rank).place(axes);
      std::vector<int>& members = groups[place.group];
      EXPECT_EQ(place.rank, static_cast<int>(members.size()));
      members.push_back(rank);
    }
    for (const auto& [group, members] : groups) {
      const Mesh first(sizes, members.front());
      EXPECT_EQ(first.place(axes).size, static_cast<int>(members.size()));
      for (int member : members) {
        const Mesh mesh(sizes, member);
        for (Axis axis : {Axis::pipeline, Axis::data, Axis::context, Axis::tensor}) {
          if (std::ranges::find(axes, axis) == axes.end() && axes.front() < Axis::expert_data) {
            EXPECT_EQ(mesh.rank(axis), first.rank(axis)) << name_of(axis) << " of ranks " << member;
          }
        }
      }
    }
  }
  EXPECT_THROW(Mesh(sizes, 0).place(std::vector{Axis::data, Axis::expert}), CheckFailure);
  EXPECT_THROW(Mesh(sizes, 0).place({}), CheckFailure);
}

TEST(Mesh, TellsItsSizes) {
  EXPECT_EQ(MeshSizes().to_string(), "one rank");
  EXPECT_EQ((MeshSizes{.pipeline = 2, .tensor = 4, .expert = 4}).to_string(), "pipeline 2 × tensor 4, expert 4");
}

TEST(Mesh, RefusesExpertsThatDoNotDivideAStage) {
  EXPECT_THROW(Mesh({.pipeline = 3, .data = 2, .expert = 3}, 0), CheckFailure);
}

TEST(Mesh, NamesItsAxes) {
  EXPECT_EQ(name_of(Axis::pipeline), "pipeline");
  EXPECT_EQ(name_of(Axis::tensor), "tensor");
}

}  // namespace
}  // namespace troupe::parallel
