#include "runtime/base/nearest.h"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(Nearest, NamesTheValuesOnBothSides) {
  EXPECT_EQ(nearest_divisors(12, 5), "4 or 6");
  EXPECT_EQ(nearest_divisors(12, 7), "6 or 12");
  EXPECT_EQ(nearest_divisors(12, 40), "12");
  EXPECT_EQ(nearest_divisors(12, 0), "1");
}

TEST(Nearest, AValueThatHoldsIsItsOwnNearest) { EXPECT_EQ(nearest_divisors(12, 4), "4"); }

TEST(Nearest, SaysWhereThereIsNone) {
  EXPECT_EQ(nearest_where(5, 1, 10, [](int64_t) { return false; }), "none");
  EXPECT_EQ(nearest_where(5, 1, 10, [](int64_t n) { return n == 9; }), "9");
}

}  // namespace
}  // namespace troupe
