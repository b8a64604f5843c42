#include "runtime/base/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace troupe {
namespace {

cpu_set_t cores_here() {
  cpu_set_t cores;
  sched_getaffinity(0, sizeof(cores), &cores);
  return cores;
}

TEST(Cores, RanksThatFillTheMachineShareItWithoutOverlap) {
  const int cores = usable_cores();
  if (cores < 2) GTEST_SKIP() << "one core";
  const cpu_set_t before = cores_here();
  cpu_set_t together;
  CPU_ZERO(&together);
  for (int rank = 0; rank < cores; ++rank) {
    std::thread([&] {  // the binding is the thread's own
      ASSERT_TRUE(keep_to_own_cores(rank, cores, 1));
      const cpu_set_t own = cores_here();
      EXPECT_EQ(usable_cores(), 1);
      cpu_set_t both;
      CPU_AND(&both, &own, &together);
      EXPECT_EQ(CPU_COUNT(&both), 0);
      CPU_OR(&together, &together, &own);
      std::thread([] { EXPECT_EQ(usable_cores(), 1) << "inherited"; }).join();
    })
        .join();
  }
  EXPECT_TRUE(CPU_EQUAL(&together, &before));
}

TEST(Cores, OtherNumbersOfRanksAreLeftToTheSystem) {
  const cpu_set_t before = cores_here();
  const int cores = usable_cores();
  EXPECT_FALSE(keep_to_own_cores(0, cores + 1, 1));
  EXPECT_FALSE(keep_to_own_cores(0, 2, cores));
  EXPECT_FALSE(keep_to_own_cores(0, 1, cores)) << "alone";
  if (cores > 2) EXPECT_FALSE(keep_to_own_cores(0, 2, 1)) << "others may need those";
  const cpu_set_t after = cores_here();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

}  // namespace
}  // namespace troupe
