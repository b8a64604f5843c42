// Cases and their texts. What drawn cases compute is layout_fuzzer's.
#include <gtest/gtest.h>

#include "tests/layout/fuzz.h"

namespace troupe::layout {
namespace {

TEST(Layout, ACaseIsWhatItsTextSays) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Case drawn = draw_case(seed);
    const auto again = parse_case(drawn.to_string());
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(again->to_string(), drawn.to_string());
  }
  EXPECT_FALSE(parse_case("ranks.tensr=2").ok());
  EXPECT_FALSE(parse_case("ranks.tensor=3").ok());
}

}  // namespace
}  // namespace troupe::layout
