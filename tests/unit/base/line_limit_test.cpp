#include "runtime/base/line_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using std::chrono::seconds;
using testing::Eq;
using testing::Optional;

TEST(LineLimit, LetsSoManyThroughInEachWindow) {
  LineLimit limit(2, seconds(10));
  EXPECT_THAT(limit.pass(seconds(3), "a"), Optional(Eq("a")));
  EXPECT_THAT(limit.pass(seconds(4), "b"), Optional(Eq("b")));
  EXPECT_EQ(limit.pass(seconds(12), "c"), std::nullopt);
  EXPECT_THAT(limit.pass(seconds(13), "d"), Optional(Eq("d (and 1 more like it before)")));
  EXPECT_THAT(limit.pass(seconds(13), "e"), Optional(Eq("e")));
  EXPECT_EQ(limit.pass(seconds(13), "f"), std::nullopt);
}

TEST(LineLimit, SaysOnceHowManyItKeptBack) {
  LineLimit limit(1, seconds(1));
  (void)limit.pass(seconds(0), "first");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.pass(seconds(0), "again"), std::nullopt);
  EXPECT_THAT(limit.pass(seconds(1), "later"), Optional(Eq("later (and 1000 more like it before)")));
  EXPECT_THAT(limit.pass(seconds(2), "at last"), Optional(Eq("at last")));
}

}  // namespace
}  // namespace troupe
