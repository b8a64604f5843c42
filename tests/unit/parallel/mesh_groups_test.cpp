#include "parallel/mesh/mesh_groups.h"

#include <gtest/gtest.h>

#include <thread>

#include "kernels/ops/kernels.h"

namespace troupe::parallel {
namespace {

// Every rank adds its number over each of its groups: the sum names the members.
TEST(MeshGroups, JoinTheRanksThatTheirAxesSay) {
  const MeshSizes sizes{.pipeline = 2, .data = 2, .context = 1, .tensor = 2, .expert = 4};
  auto world = make_thread_communicators(sizes.ranks());
  const auto device = kernels::make_cpu_device(1);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < sizes.ranks(); ++rank) {
    threads.emplace_back([&, rank] {
      const Mesh mesh(sizes, rank);
      const MeshGroups groups(mesh, *world[static_cast<size_t>(rank)]);
      const auto sum = [&](Communicator& group) {
        const auto x = kernels::Tensor::from<int64_t>(*device, std::vector<int64_t>{int64_t{1} << rank}, {1});
        group.all_reduce(x).wait();
        return x.to_host<int64_t>()[0];
      };
      const int64_t stage = int64_t{0xF} << (rank & 4);
      EXPECT_EQ(sum(groups[Group::pipeline]), int64_t{0x11} << (rank & 3));
      EXPECT_EQ(groups[Group::pipeline].rank(), rank / 4);
      EXPECT_EQ(sum(groups[Group::replicas]), int64_t{0b101} << (rank & 5));
      EXPECT_EQ(sum(groups[Group::tensor]), int64_t{0b11} << (rank & 6));
      EXPECT_EQ(sum(groups[Group::context]), int64_t{1} << rank);
      EXPECT_EQ(sum(groups[Group::stage]), stage);
      EXPECT_EQ(sum(groups[Group::expert]), stage);
      EXPECT_EQ(sum(groups[Group::expert_replicas]), int64_t{1} << rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MeshGroups, AreTheRanksThatAPlanNames) {
  for (const MeshSizes& sizes : {MeshSizes{.pipeline = 3, .data = 2, .tensor = 2, .expert = 2},
                                 MeshSizes{.data = 2, .tensor = 4, .expert = 2, .expert_tensor = 2, .kv_sharing = 2}}) {
    auto world = make_thread_communicators(sizes.ranks());
    std::vector<std::thread> threads;
    for (int rank = 0; rank < sizes.ranks(); ++rank) {
      threads.emplace_back([&, rank] {
        const MeshGroups groups(Mesh(sizes, rank), *world[static_cast<size_t>(rank)]);
        for (int g = 0; g < kGroups; ++g) {
          const auto group = static_cast<Group>(g);
          const std::vector<int> ranks = ranks_of(group, sizes, rank);
          if (ranks.empty()) {
            EXPECT_EQ(group, Group::ends);
            EXPECT_THROW(groups[group], CheckFailure);
            continue;
          }
          EXPECT_EQ(groups[group].size(), static_cast<int>(ranks.size())) << name_of(group);
          EXPECT_EQ(ranks[static_cast<size_t>(groups[group].rank())], rank) << name_of(group);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace troupe::parallel
