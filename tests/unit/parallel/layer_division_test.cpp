#include "parallel/schedule/layer_division.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace troupe::parallel {
namespace {

double greatest(const std::vector<int>& blocks, EdgeWork edges) {
  std::vector<double> work(blocks.begin(), blocks.end());
  work.front() += edges.embedding;
  work.back() += edges.head;
  return *std::ranges::max_element(work);
}

// The smallest greatest chunk of all divisions, one by one.
double best_of_all(int layers, int chunks, EdgeWork edges) {
  double best = 1e9;
  std::vector<int> blocks;
  const std::function<void(int)> try_all = [&](int left) {
    if (static_cast<int>(blocks.size()) == chunks) {
      if (left == 0) best = std::min(best, greatest(blocks, edges));
      return;
    }
    for (int n = 1; n <= left; ++n) {
      blocks.push_back(n);
      try_all(left - n);
      blocks.pop_back();
    }
  };
  try_all(layers);
  return best;
}

TEST(LayerDivision, NoOtherDivisionHasASmallerGreatestChunk) {
  for (int stages = 1; stages <= 4; ++stages) {
    for (int virtual_stages = 1; virtual_stages <= (stages > 2 ? 1 : 2); ++virtual_stages) {
      const int chunks = stages * virtual_stages;
      for (int layers = chunks; layers <= 11; ++layers) {
        for (double head : {0.0, 0.3, 1.0, 2.5, 7.0}) {
          const EdgeWork edges{.head = head};
          const std::vector<int> blocks = divide_layers(layers, stages, virtual_stages, edges);
          EXPECT_EQ(std::accumulate(blocks.begin(), blocks.end(), 0), layers);
          EXPECT_GE(*std::ranges::min_element(blocks), 1);
          EXPECT_EQ(greatest(blocks, edges), best_of_all(layers, chunks, edges)) << layers << " over " << chunks;
        }
      }
    }
  }
}

TEST(LayerDivision, BlocksAloneDifferByOneAtMostInChunksAndStages) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int virtual_stages = 1; virtual_stages <= 4; ++virtual_stages) {
      for (int layers = stages * virtual_stages; layers <= 70; ++layers) {
        const std::vector<int> blocks = divide_layers(layers, stages, virtual_stages, {.embedding = 0});
        const auto [least, most] = std::ranges::minmax_element(blocks);
        EXPECT_LE(*most - *least, 1);
        std::vector<int> of_stage(static_cast<size_t>(stages));
        for (size_t c = 0; c < blocks.size(); ++c) of_stage[c % of_stage.size()] += blocks[c];
        const auto [fewest, greatest] = std::ranges::minmax_element(of_stage);
        EXPECT_LE(*greatest - *fewest, 1);
      }
    }
  }
}

TEST(LayerDivision, TheRestGoesToTheLatestAndTheEdgesGetLess) {
  EXPECT_EQ(divide_layers(12, 4, 1, {}), (std::vector<int>{3, 3, 3, 3}));
  EXPECT_EQ(divide_layers(10, 4, 1, {}), (std::vector<int>{2, 2, 3, 3}));
  EXPECT_EQ(divide_layers(11, 4, 1, {}), (std::vector<int>{2, 3, 3, 3}));
  EXPECT_EQ(divide_layers(10, 4, 1, {.head = 1}), (std::vector<int>{2, 3, 3, 2}));
  EXPECT_EQ(divide_layers(30, 4, 1, {.head = 2}), (std::vector<int>{8, 8, 8, 6}));
  EXPECT_EQ(divide_layers(10, 2, 2, {}), (std::vector<int>{2, 2, 3, 3}));
  EXPECT_EQ(divide_layers(5, 4, 1, {.head = 9}), (std::vector<int>{1, 1, 2, 1}));
  EXPECT_THROW(divide_layers(3, 2, 2, {}), CheckFailure);
}

TEST(LayerDivision, TheHeadCountsAsTheBlocksThatItsProductCosts) {
  DecoderConfig config;
  config.vocabulary = 1000;
  config.layers = 3;
  config.width = 64;
  config.heads = 4;
  ASSERT_TRUE(config.complete().ok());
  const double head = edge_work(config, 128).head;
  const double block = (config.forward_flops_per_token(128) - 2.0 * 64 * 1000) / 3;
  EXPECT_DOUBLE_EQ(head, 2.0 * 64 * 1000 / block);
  config.vocabulary *= 2;
  EXPECT_DOUBLE_EQ(edge_work(config, 128).head, 2 * head);
}

}  // namespace
}  // namespace troupe::parallel
