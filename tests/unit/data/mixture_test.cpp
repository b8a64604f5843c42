#include "actors/data/mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace troupe::data {
namespace {

const std::vector<std::vector<double>> kWeights = {{1},
                                                   {1, 1},
                                                   {3, 1},
                                                   {0.7, 0.2, 0.1},
                                                   {1, 1e-9},
                                                   {1e-9, 1, 1e-9, 5},
                                                   {1, 2, 3, 4, 5, 6, 7},
                                                   std::vector<double>(1000, 0.1)};

TEST(Mixture, KeepsTheProportionsInEveryPrefix) {
  for (const auto& weights : kWeights) {
    const Mixture mixture = Mixture::create(weights).value();
    std::vector<int64_t> counts(weights.size(), 0);
    for (int64_t i = 0; i < Mixture::kPeriod + 100; ++i) {
      ++counts[static_cast<size_t>(mixture.turn(i).dataset)];
      if (weights.size() > 100 && i % 1000 != 0) continue;
      for (size_t d = 0; d < counts.size(); ++d) {
        const double share = static_cast<double>(mixture.slots(static_cast<int32_t>(d))) / Mixture::kPeriod;
        ASSERT_LT(std::abs(static_cast<double>(counts[d]) - share * static_cast<double>(i + 1)), 1.0)
            << "dataset " << d << " of " << counts.size() << " after " << i + 1;
      }
    }
  }
}

TEST(Mixture, CountsEachDatasetsSequencesWithoutGaps) {
  for (const auto& weights : kWeights) {
    const Mixture mixture = Mixture::create(weights).value();
    std::vector<int64_t> next(weights.size(), 0);
    for (int64_t i = 0; i < 3 * Mixture::kPeriod; ++i) {
      const Mixture::Turn turn = mixture.turn(i);
      ASSERT_EQ(turn.index, next[static_cast<size_t>(turn.dataset)]++) << "sequence " << i;
    }
  }
}

TEST(Mixture, RoundsWeightsToSlotsAndNoneToZero) {
  for (const auto& weights : kWeights) {
    const Mixture mixture = Mixture::create(weights).value();
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    int64_t slots = 0;
    for (size_t d = 0; d < weights.size(); ++d) {
      const int64_t n = mixture.slots(static_cast<int32_t>(d));
      EXPECT_GE(n, 1);
      // One slot of rounding, and one for each dataset that is lifted to a slot (three at most here).
      EXPECT_NEAR(static_cast<double>(n), weights[d] / sum * Mixture::kPeriod, 3.0);
      slots += n;
    }
    EXPECT_EQ(slots, Mixture::kPeriod);
  }
}

TEST(Mixture, RefusesWeightsThatAreNone) {
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    const auto mixture = Mixture::create(std::vector<double>{1.0, bad});
    ASSERT_FALSE(mixture.ok());
    EXPECT_EQ(mixture.error().kind(), ErrorKind::usage);
  }
  EXPECT_FALSE(Mixture::create(std::vector<double>(5000, 1.0)).ok());
}

}  // namespace
}  // namespace troupe::data
