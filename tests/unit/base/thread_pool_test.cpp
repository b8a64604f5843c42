#include "runtime/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace troupe {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryIndexOnce) {
  ThreadPool pool(GetParam());
  for (int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
    pool.parallel_for(count, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
    for (auto& n : runs) EXPECT_EQ(n, 1);
  }
}

TEST_P(ThreadPoolTest, RangesCoverTheWholeWithoutOverlap) {
  ThreadPool pool(GetParam());
  for (int64_t count : {1, 3, 100, 1001}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
    pool.parallel_ranges(count, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
    });
    for (auto& n : runs) EXPECT_EQ(n, 1);
  }
}

TEST_P(ThreadPoolTest, ThrowsWhatABodyThrewAndGoesOn) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.parallel_for(100,
                                 [](int64_t i) {
                                   if (i == 37) throw std::runtime_error("37");
                                 }),
               std::runtime_error);
  std::atomic<int64_t> sum{0};
  pool.parallel_for(100, [&](int64_t i) { sum += i; });
  EXPECT_EQ(sum, 4950);
}

TEST_P(ThreadPoolTest, RefusesALoopInsideALoop) {
  ThreadPool pool(GetParam());
  EXPECT_ANY_THROW(pool.parallel_for(2, [&](int64_t) { pool.parallel_for(2, [](int64_t) {}); }));
}

TEST_P(ThreadPoolTest, ManyShortLoopsFinish) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum{0};
  // Counts below, at and above the number of threads, so that loops with and without each worker alternate.
  for (int i = 0; i < 500; ++i) {
    for (const int64_t count : {2, 3, 9}) {
      pool.parallel_for(count, [&](int64_t k) { sum.fetch_add(k, std::memory_order_relaxed); });
    }
  }
  EXPECT_EQ(sum, 500 * (1 + 3 + 36));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolTest, testing::Values(1, 2, 3, 8, 27));

TEST(ThreadPool, NumbersTheThreadsBelowItsSize) {
  ThreadPool pool(3);
  std::atomic<int> wrong{0};
  pool.parallel_for_thread(1000, [&](int64_t, int thread) { wrong += thread < 0 || thread >= 3; });
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, RefusesToHaveNoThreads) { EXPECT_ANY_THROW(ThreadPool(0)); }

}  // namespace
}  // namespace troupe
