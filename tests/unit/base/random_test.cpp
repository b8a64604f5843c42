#include "runtime/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace troupe {
namespace {

std::vector<uint32_t> words(const RandomBlock& block) { return {block.words, block.words + 4}; }

// The vectors published with the paper's reference implementation (Random123, kat_vectors).
TEST(Random, PhiloxMatchesThePublishedVectors) {
  EXPECT_EQ(words(philox4x32(0, 0, 0)), (std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox4x32(~0ull, ~0ull, ~0ull)),
            (std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox4x32(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e)),
            (std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// These values are a promise: checkpoints, data order and initial weights depend on them.
TEST(Random, DerivedValuesNeverChange) {
  EXPECT_EQ(hash_name(""), 0xEFD01F60BA992926u);
  EXPECT_EQ(hash_name("blocks.0.attention.query.weight"), 11088056026640965053u);
  EXPECT_EQ(derive_key(1, 2, 3), 7835872022884559260u);
  EXPECT_EQ(random_below(1, 2, 1000), 556u);
  EXPECT_EQ(permute(5, 1000, 42), 817u);
  EXPECT_FLOAT_EQ(uniform(7, 9), 0.00845307f);
}

TEST(Random, NamesThatDifferLittleHashFarApart) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 10000; ++i) seen.insert(hash_name("blocks." + std::to_string(i)) >> 32);
  EXPECT_GT(seen.size(), 9990u);  // 32-bit birthday: 0.01 collisions expected
}

TEST(Random, DerivedKeysDependOnEveryCoordinateAndTheirOrder) {
  const std::set<uint64_t> keys{derive_key(1, 2, 3), derive_key(1, 3, 2), derive_key(2, 1, 3), derive_key(1, 2),
                                derive_key(1, 2, 4), random_u64(1, 2),    random_u64(1, 3),    derive_key(0, 0)};
  EXPECT_EQ(keys.size(), 8u);
}

TEST(Random, UniformsStayInTheirIntervals) {
  EXPECT_EQ(to_uniform(0), 0.0f);
  EXPECT_LT(to_uniform(~0u), 1.0f);
  EXPECT_GT(to_uniform_positive(0), 0.0f);
  EXPECT_EQ(to_uniform_positive(~0u), 1.0f);
  EXPECT_LT(to_uniform_double(~0ull), 1.0);
}

TEST(Random, FourAtATimeEqualsOneAtATime) {
  for (uint64_t block = 0; block < 10; ++block) {
    float uniforms[4], normals[4];
    uniform4(3, block, uniforms);
    normal4(3, block, normals);
    for (uint64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(uniforms[i], uniform(3, 4 * block + i));
      EXPECT_EQ(normals[i], normal(3, 4 * block + i));
    }
  }
}

TEST(Random, UniformsFillTheirInterval) {
  constexpr int kDraws = 1 << 16, kBins = 64;
  std::vector<int> bins(kBins);
  for (uint64_t i = 0; i < kDraws; ++i) ++bins[static_cast<size_t>(uniform(11, i) * kBins)];
  double chi = 0;
  const double expected = double{kDraws} / kBins;
  for (const int n : bins) chi += (n - expected) * (n - expected) / expected;
  EXPECT_LT(chi, 63 + 5 * std::sqrt(2 * 63.0));  // five sigma of chi-squared with 63 degrees; fixed key, so never flaky
}

TEST(Random, NormalsHaveTheMomentsOfANormal) {
  constexpr int kDraws = 1 << 18;
  double sum[5] = {};
  for (uint64_t block = 0; block < kDraws / 4; ++block) {
    float z[4];
    normal4(5, block, z);
    for (const float v : z) {
      double power = 1;
      for (int k = 1; k <= 4; ++k) sum[k] += power *= static_cast<double>(v);
    }
  }
  // Five standard errors each: variances of z, z², z³, z⁴ are 1, 2, 15, 96.
  const double root = std::sqrt(double{kDraws});
  EXPECT_NEAR(sum[1] / kDraws, 0, 5 / root);
  EXPECT_NEAR(sum[2] / kDraws, 1, 5 * std::sqrt(2) / root);
  EXPECT_NEAR(sum[3] / kDraws, 0, 5 * std::sqrt(15) / root);
  EXPECT_NEAR(sum[4] / kDraws, 3, 5 * std::sqrt(96) / root);
}

TEST(Random, BoundedIntegersAreUnbiasedAndInRange) {
  for (const uint64_t n : {1ull, 2ull, 3ull, 7ull, 10ull}) {
    std::vector<int> counts(n);
    for (uint64_t i = 0; i < 20000; ++i) {
      const uint64_t draw = random_below(13, i, n);
      ASSERT_LT(draw, n);
      ++counts[draw];
    }
    const double expected = 20000.0 / static_cast<double>(n);
    for (const int count : counts) EXPECT_NEAR(count, expected, 5 * std::sqrt(expected) + 1e-9);  // five sigma
  }
  // Three quarters of 2^64: a plain modulo would give the lower third twice as often.
  const uint64_t n = 3ull << 62;
  int lower = 0;
  for (uint64_t i = 0; i < 9000; ++i) lower += random_below(17, i, n) < (1ull << 62);
  EXPECT_NEAR(lower, 3000, 5 * std::sqrt(2000.0));  // binomial(9000, 1/3)
}

TEST(Random, PermuteIsABijectionForEverySize) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 16, 17, 100, 127, 1000}) {
    for (const uint64_t key : {0ull, 1ull, ~0ull}) {
      std::vector<bool> hit(n);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t to = permute(i, n, key);
        ASSERT_LT(to, n);
        ASSERT_FALSE(hit[to]) << n << " " << key;
        hit[to] = true;
      }
    }
  }
}

TEST(Random, PermuteWorksNearTheEndOfTheRange) {
  for (const uint64_t n : {(1ull << 40) + 1, 1ull << 63, ~0ull}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t to = permute(n - 1 - i, n, 3);
      ASSERT_LT(to, n);
      seen.insert(to);
    }
    EXPECT_EQ(seen.size(), 1000u);
  }
}

TEST(Random, PermuteSendsEachIndexEverywhereOverTheKeys) {
  for (const uint64_t n : {3ull, 6ull, 11ull}) {
    constexpr int kKeys = 6000;
    for (uint64_t index = 0; index < n; ++index) {
      std::vector<int> counts(n);
      for (uint64_t key = 0; key < kKeys; ++key) ++counts[permute(index, n, key)];
      const double expected = double{kKeys} / static_cast<double>(n);
      for (const int count : counts) EXPECT_NEAR(count, expected, 5 * std::sqrt(expected));  // five sigma
    }
  }
}

TEST(Random, PermuteLeavesNoNeighboursTogether) {
  constexpr uint64_t n = 100000;
  int near = 0;
  uint64_t before = permute(0, n, 9);
  for (uint64_t i = 1; i < n; ++i) {
    const uint64_t to = permute(i, n, 9);
    near += std::max(to, before) - std::min(to, before) <= 10;
    before = to;
  }
  EXPECT_NEAR(near, 20, 5 * std::sqrt(20.0));  // 2·10 / n of n - 1 pairs, Poisson
}

TEST(Random, AStreamIsItsKeyAndPosition) {
  RandomStream a{21, 0};
  for (int i = 0; i < 10; ++i) a();
  RandomStream b{21, 10};
  EXPECT_EQ(a(), b());
  EXPECT_EQ(a.uniform(), b.uniform());
  EXPECT_EQ(a.below(7), b.below(7));
  EXPECT_EQ(a.normal(), b.normal());
  std::vector<int> deck{1, 2, 3, 4, 5};
  std::shuffle(deck.begin(), deck.end(), a);
  EXPECT_TRUE(std::is_permutation(deck.begin(), deck.end(), std::vector<int>{1, 2, 3, 4, 5}.begin()));
}

}  // namespace
}  // namespace troupe
