#include "actors/serve/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "runtime/base/check.h"

namespace troupe::serve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

SamplingOptions at_temperature(double temperature) {
  SamplingOptions options;
  options.temperature = temperature;
  return options;
}

int32_t sample(std::vector<float> logits, const SamplingOptions& options, uint64_t draw = 0,
               std::vector<int32_t> seen = {}) {
  return sample_token(logits, seen, options, draw);
}

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3));
  return logits;
}

// A token's count is binomial: 5 standard deviations are passed once in two million draws of a seed, and the
// seed is fixed. A token of probability 0 never comes.
void expect_frequencies(const std::vector<float>& logits, const SamplingOptions& options,
                        const std::vector<double>& probabilities, const std::vector<int32_t>& seen = {}) {
  constexpr int kDraws = 20'000;
  std::vector<int> count(logits.size());
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    ++count[static_cast<size_t>(sample(logits, options, draw, seen))];
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = probabilities[i];
    EXPECT_NEAR(static_cast<double>(count[i]) / kDraws, p, 5 * std::sqrt(p * (1 - p) / kDraws)) << "token " << i;
  }
}

TEST(Sampling, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  EXPECT_EQ(sample({1, 3, 2}, at_temperature(0)), 1);
  EXPECT_EQ(sample({1, 3, 3, 3}, at_temperature(0)), 1);
  EXPECT_EQ(sample({-kInfinity, -5, -kInfinity}, at_temperature(0)), 1);
  SamplingOptions one = at_temperature(2);
  one.top_k = 1;
  EXPECT_EQ(sample({0, 4, 4}, one), 1);
}

TEST(Sampling, ANaNIsNeverTakenWhereverItStands) {
  for (const SamplingOptions& options : {at_temperature(0), at_temperature(1e-3)}) {
    EXPECT_EQ(sample({5, kNaN, 1}, options), 0);
    EXPECT_EQ(sample({kNaN, 5, 1}, options), 1);
    EXPECT_EQ(sample({1, 5, kNaN}, options), 1);
  }
  EXPECT_THROW(sample({kNaN, -kInfinity}, at_temperature(0)), CheckFailure);
  EXPECT_THROW(sample({}, at_temperature(1)), CheckFailure);
}

TEST(Sampling, FrequenciesAreTheSoftmax) {
  expect_frequencies(logits_of({0.5, 0.25, 0.125, 0.125}), at_temperature(1), {0.5, 0.25, 0.125, 0.125});
  std::vector<float> masked = logits_of({0.75, 0.25, 1});
  masked[2] = -kInfinity;
  expect_frequencies(masked, at_temperature(1), {0.75, 0.25, 0});
}

TEST(Sampling, TemperatureRaisesProbabilitiesToItsInverse) {
  // Squared: 1/4, 1/16, 1/16 of 3/8. Square roots: 1 : 1/√2 : 1/√2.
  const double root = std::sqrt(0.5);
  expect_frequencies(logits_of({0.5, 0.25, 0.25}), at_temperature(0.5), {4.0 / 6, 1.0 / 6, 1.0 / 6});
  expect_frequencies(logits_of({0.5, 0.25, 0.25}), at_temperature(2),
                     {1 / (1 + 2 * root), root / (1 + 2 * root), root / (1 + 2 * root)});
}

TEST(Sampling, TopKKeepsTheMostLikelyAndTheLowerIdsOfATie) {
  SamplingOptions options = at_temperature(1);
  options.top_k = 2;
  expect_frequencies(logits_of({0.2, 0.2, 0.4, 0.2}), options, {1.0 / 3, 0, 2.0 / 3, 0});
  options.top_k = 9;
  expect_frequencies(logits_of({0.2, 0.2, 0.4, 0.2}), options, {0.2, 0.2, 0.4, 0.2});
}

TEST(Sampling, TopPKeepsTheFewestThatReachIt) {
  SamplingOptions options = at_temperature(1);
  options.top_p = 0.6;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 2.0 / 3, 1.0 / 3, 0});
  options.top_p = 0.4;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 1, 0, 0});
  options.top_p = 0;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 1, 0, 0});
  options.top_p = 0.7;  // of what top-k leaves: 0.5 / 0.75 < 0.7
  options.top_k = 2;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 2.0 / 3, 1.0 / 3, 0});
}

// More candidates than are sorted in one round: 1,000 alike, of which 0.7 keeps the 700 lowest ids.
TEST(Sampling, TopPOfAWideVocabularyKeepsTheLowerIdsOfATie) {
  SamplingOptions options = at_temperature(1);
  options.top_p = 0.6995;  // half a token from either side, so that no rounding decides
  std::set<int32_t> found;
  for (uint64_t draw = 0; draw < 20'000; ++draw) found.insert(sample(std::vector<float>(1000, 1.5f), options, draw));
  // Some token of 700 is missed with probability 700·(1 - 1/700)^20000 < 1e-9.
  EXPECT_EQ(found.size(), 700u);
  EXPECT_EQ(*found.rbegin(), 699);
}

TEST(Sampling, MinPIsAShareOfTheMostLikely) {
  SamplingOptions options = at_temperature(1);
  options.min_p = 0.4;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 2.0 / 3, 1.0 / 3, 0});
  options.min_p = 1;
  expect_frequencies(logits_of({0.1, 0.5, 0.25, 0.15}), options, {0, 1, 0, 0});
}

TEST(Sampling, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplingOptions options = at_temperature(0);
  options.repetition_penalty = 2;
  EXPECT_EQ(sample({4, 3, -1}, options, 0, {0, 0, 0}), 1);
  EXPECT_EQ(sample({4, 1.9f, -1}, options, 0, {0, 0, 0}), 0);  // 2, not 0.5
  EXPECT_EQ(sample({-1, -1.5f, -3}, options, 0, {0}), 1);
  options.temperature = 1;
  const auto ln = [](double x) { return static_cast<float>(std::log(x)); };
  expect_frequencies({ln(4), ln(2), ln(2)}, options, {2.0 / 6, 2.0 / 6, 2.0 / 6}, {0});  // ln 4 / 2 = ln 2
}

TEST(Sampling, TheSameSeedAndDrawGiveTheSameToken) {
  const std::vector<float> logits(50, 0.0f);
  SamplingOptions options = at_temperature(1);
  std::vector<int32_t> first, again, other;
  for (uint64_t draw = 0; draw < 40; ++draw) first.push_back(sample(logits, options, draw));
  for (uint64_t draw = 40; draw-- > 0;) again.insert(again.begin(), sample(logits, options, draw));
  EXPECT_EQ(first, again);
  options.seed = 1;
  for (uint64_t draw = 0; draw < 40; ++draw) other.push_back(sample(logits, options, draw));
  EXPECT_NE(first, other);
}

TEST(Sampling, ExtremeTemperaturesStayFinite) {
  EXPECT_EQ(sample({1, 1.001f, -3e38f}, at_temperature(1e-300)), 1);
  for (uint64_t draw = 0; draw < 100; ++draw) EXPECT_LT(sample({3e38f, -3e38f, 0}, at_temperature(1e300), draw), 3);
}

}  // namespace
}  // namespace troupe::serve
