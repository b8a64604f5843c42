#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

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
  const std::array<int, kAxes> sizes{3, 2, 5, 4};
  std::set<std::array<int, kAxes>> seen;
  for (int rank = 0; rank < 120; ++rank) {
    const Mesh mesh(sizes, rank);
    EXPECT_EQ(mesh.world_size(), 120);
    const std::array<int, kAxes> at{mesh.rank(Axis::pipeline), mesh.rank(Axis::data), mesh.rank(Axis::context),
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

TEST(Mesh, NamesItsAxes) {
  EXPECT_EQ(name_of(Axis::pipeline), "pipeline");
  EXPECT_EQ(name_of(Axis::tensor), "tensor");
}

}  // namespace
}  // namespace troupe::parallel
