#include "runtime/base/clock.h"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(Clock, ManualTimeMovesOnlyWhenTold) {
  using namespace std::chrono_literals;
  ManualClock clock;
  const auto start = clock.now();
  const auto wall = clock.wall();
  EXPECT_EQ(clock.now(), start);
  clock.advance(1500ms);
  EXPECT_EQ(clock.now() - start, 1500ms);
  EXPECT_EQ(clock.wall() - wall, 1500ms);
  EXPECT_EQ(clock.seconds(), 1.5);
}

TEST(Clock, SteadyTimeNeverGoesBack) {
  SteadyClock clock;
  auto before = clock.now();
  for (int i = 0; i < 1000; ++i) {
    const auto now = clock.now();
    ASSERT_GE(now, before);
    before = now;
  }
}

}  // namespace
}  // namespace troupe
