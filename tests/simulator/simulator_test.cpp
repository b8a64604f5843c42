// The simulator itself: a seed says all that happens in its run.
#include <gtest/gtest.h>

#include "tests/simulator/scenario.h"

namespace troupe::simulator {
namespace {

TEST(Simulator, TheSameSeedIsTheSameRunToTheFrame) {
  for (const Scenario& scenario : scenarios()) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      SCOPED_TRACE(fmt::format("{} {}", scenario.name, seed));
      const Outcome one = run_seed(seed, scenario.name), again = run_seed(seed, scenario.name);
      EXPECT_EQ(one.violation, "");
      EXPECT_EQ(one.fingerprint, again.fingerprint);
      EXPECT_EQ(one.messages, again.messages);
      EXPECT_NE(one.fingerprint, run_seed(seed + 100, scenario.name).fingerprint);
    }
  }
}

TEST(Simulator, ARunThatIsTracedIsTheSameRun) {
  for (const Scenario& scenario : scenarios()) {
    int64_t lines = 0;
    const Outcome traced = run_seed(3, scenario.name, [&](const std::string&) { ++lines; });
    EXPECT_EQ(traced.fingerprint, run_seed(3, scenario.name).fingerprint);
    EXPECT_GT(lines, traced.messages);
  }
}

}  // namespace
}  // namespace troupe::simulator
