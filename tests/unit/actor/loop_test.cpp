// Both loops: the order of jobs, timers, what other threads may do, and that an idle loop sleeps.
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <future>

#include "runtime/actor/simulated_loop.h"
#include "runtime/actor/simulated_thread.h"
#include "runtime/actor/thread_loop.h"
#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;

// Waits for `future` as long as a slow machine may take.
template <class T>
T get(std::future<T> future) {
  TROUPE_CHECK(future.wait_for(30s) == std::future_status::ready, "nothing came within 30 s");
  return future.get();
}

struct CountingJob final : Job {
  explicit CountingJob(std::vector<int>& order_, int number_) : order(order_), number(number_) {}
  void run() noexcept override { order.push_back(number); }
  void drop() noexcept override { order.push_back(-number); }
  std::vector<int>& order;
  int number;
};

TEST(SimulatedLoop, RunsJobsAndCallbacksInTheOrderOfPosting) {
  SimulatedLoop loop;
  std::vector<int> order;
  CountingJob first(order, 1), third(order, 3);
  loop.post(first);
  loop.post([&] {
    order.push_back(2);
    loop.post([&] { order.push_back(4); });
  });
  loop.post(third);
  EXPECT_EQ(loop.run_until_idle(), 4);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
}

TEST(SimulatedLoop, TimePassesOnlyWhenToldToAndStopsAtEveryTimer) {
  SimulatedLoop loop;
  std::vector<std::pair<int, std::chrono::nanoseconds>> fired;
  const auto fires = [&](int number) {
    return [&fired, &loop, number] { fired.push_back({number, loop.clock().now()}); };
  };
  Timer late = loop.after(20ms, fires(3));
  Timer early = loop.after(10ms, fires(1));
  Timer same_time = loop.after(10ms, fires(2));
  loop.run_until_idle();
  EXPECT_TRUE(fired.empty());
  loop.advance(15ms);
  ASSERT_EQ(fired.size(), 2u);
  EXPECT_EQ(fired[0], (std::pair<int, std::chrono::nanoseconds>{1, 10ms}));
  EXPECT_EQ(fired[1], (std::pair<int, std::chrono::nanoseconds>{2, 10ms}));
  EXPECT_EQ(loop.clock().now(), 15ms);
  EXPECT_TRUE(loop.advance_to_next());
  EXPECT_EQ(fired.back().first, 3);
  EXPECT_EQ(loop.clock().now(), 20ms);
  EXPECT_FALSE(loop.advance_to_next());
}

TEST(SimulatedLoop, ATimerThatIsCancelledOrDestroyedDoesNotFire) {
  SimulatedLoop loop;
  bool fired = false;
  Timer cancelled = loop.after(1ms, [&] { fired = true; });
  {
    Timer destroyed = loop.after(1ms, [&] { fired = true; });
  }
  Timer replaced = loop.after(1ms, [&] { fired = true; });
  replaced = Timer();
  cancelled.cancel();
  loop.advance(10ms);
  EXPECT_FALSE(fired);
}

TEST(SimulatedLoop, SaysWhenCodeNeverComesToRest) {
  SimulatedLoop loop;
  std::function<void()> again = [&] { loop.post(again); };
  loop.post(again);
  EXPECT_THROW(loop.run_until_idle(1000), CheckFailure);
}

TEST(SimulatedLoop, DropsWhatHasNotRun) {
  std::vector<int> order;
  CountingJob job(order, 1);
  const auto held = std::make_shared<int>(0);
  {
    SimulatedLoop loop;
    loop.post(job);
    loop.post([held] {});
    Timer timer = loop.after(1ms, [held] {});
    EXPECT_EQ(held.use_count(), 3);
    loop.post([timer = std::make_shared<Timer>(std::move(timer))] {});
  }
  EXPECT_EQ(order, std::vector<int>{-1});
  EXPECT_EQ(held.use_count(), 1);
}

TEST(SimulatedLoop, JobsThatAreDueLaterStandAmongTheTimers) {
  std::vector<int> order;
  CountingJob second(order, 2), never(order, 3);
  {
    SimulatedLoop loop;
    Timer first = loop.after(10ms, [&] { order.push_back(1); });
    loop.post_after(10ms, second);
    loop.post_after(1h, never);
    loop.advance(20ms);
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
  }
  EXPECT_EQ(order.back(), -3);
}

TEST(SimulatedThread, WhatIsHeldRunsInOrderOnceItGoesOn) {
  SimulatedLoop world;
  SimulatedThread thread(world), other(world);
  std::vector<int> order;
  Timer timer = thread.after(1ms, [&] { order.push_back(2); });
  Timer cancelled = thread.after(1ms, [&] { order.push_back(99); });
  thread.post([&] { order.push_back(1); });
  thread.hold();
  other.post([&] { order.push_back(0); });
  world.advance(5ms);
  EXPECT_EQ(order, std::vector<int>{0});
  cancelled.cancel();  // due, and not yet run
  thread.post([&] { order.push_back(3); });
  thread.go_on();
  world.run_until_idle();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
}

TEST(SimulatedThread, ASlowOneTakesItsTimeForEachJob) {
  SimulatedLoop world;
  SimulatedThread thread(world);
  thread.set_pace(3ms);
  std::vector<std::chrono::nanoseconds> ran;
  for (int i = 0; i < 3; ++i) thread.post([&] { ran.push_back(world.clock().now()); });
  world.advance(20ms);
  EXPECT_EQ(ran, (std::vector<std::chrono::nanoseconds>{3ms, 6ms, 9ms}));
}

TEST(SimulatedThread, EndsWithAllThatItStillHadToDo) {
  SimulatedLoop world;
  std::vector<int> order;
  CountingJob job(order, 1);
  const auto held = std::make_shared<int>(0);
  bool fired = false;
  Timer timer;
  {
    SimulatedThread thread(world);
    thread.post(job);
    thread.post([held] {});
    timer = thread.after(1ms, [held, &fired] { fired = true; });
    Timer due = thread.after(0ms, [held, &fired] { fired = true; });
    thread.hold();
    world.advance(0ms);
    EXPECT_EQ(held.use_count(), 4);
  }
  EXPECT_EQ(order, std::vector<int>{-1});
  EXPECT_EQ(held.use_count(), 1);
  world.advance(1s);
  EXPECT_FALSE(fired);
}

TEST(ThreadLoop, KeepsTheOrderOfEachThreadThatPosts) {
  constexpr int kThreads = 4, kPosts = 20'000;
  struct Numbered final : Job {
    void run() noexcept override {
      in_order = in_order && *last == number - 1;
      *last = number;
    }
    int number = 0;
    int* last = nullptr;
    bool in_order = true;
  };
  std::vector<std::vector<Numbered>> jobs(kThreads);
  std::vector<int> last(kThreads, 0);
  for (int thread = 0; thread < kThreads; ++thread) {
    jobs[thread].resize(kPosts);
    for (int i = 0; i < kPosts; ++i) {
      jobs[thread][i].number = i + 1;
      jobs[thread][i].last = &last[thread];
    }
  }
  std::promise<void> all;
  std::atomic<int> done{0};
  {
    LoopThread loop;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (Numbered& job : jobs[thread]) loop.loop().post(job);
        loop.loop().post([&] {
          if (++done == kThreads) all.set_value();
        });
      });
    }
    get(all.get_future());
    for (std::thread& thread : threads) thread.join();
  }
  for (const auto& of_thread : jobs) {
    for (const Numbered& job : of_thread) ASSERT_TRUE(job.in_order);
    EXPECT_EQ(*of_thread[0].last, kPosts);
  }
}

TEST(ThreadLoop, WakesFromSleepForEveryPost) {
  LoopThread thread({.spin = 0ns});
  ThreadLoop& loop = thread.loop();
  for (int i = 0; i < 2000; ++i) {
    std::promise<bool> ran;
    loop.post([&] { ran.set_value(loop.runs_here()); });
    ASSERT_TRUE(get(ran.get_future()));
  }
  EXPECT_FALSE(loop.runs_here());
  EXPECT_GT(loop.sleeps(), 0);
}

TEST(ThreadLoop, SleepsOnceItHasSpunInVain) {
  std::promise<void> elapsed;
  LoopThread thread({.spin = 100us});
  thread.loop().post([&] { thread.loop().post([] {}); });
  // A timer wakes it from that sleep, so it has slept when the timer fires.
  Timer timer;
  thread.loop().post([&] {
    timer = thread.loop().after(20ms, [&] {
      timer = Timer();
      elapsed.set_value();
    });
  });
  get(elapsed.get_future());
  EXPECT_GT(thread.loop().sleeps(), 0);
}

TEST(ThreadLoop, FiresTimersInOrderAndNotTheCancelledOnes) {
  LoopThread thread;
  ThreadLoop& loop = thread.loop();
  std::promise<void> done;
  std::vector<int> order;
  std::vector<Timer> timers;
  loop.post([&] {
    timers.push_back(loop.after(4ms, [&] {
      order.push_back(2);
      timers.clear();
      done.set_value();
    }));
    timers.push_back(loop.after(1ms, [&] { order.push_back(1); }));
    timers.push_back(loop.after(2ms, [&] { order.push_back(-1); }));
    timers.back().cancel();
    timers.push_back(loop.after(2ms, [&] { order.push_back(-2); }));
    timers.pop_back();
  });
  get(done.get_future());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(ThreadLoop, ATimerFiresWhileJobsKeepTheLoopBusy) {
  LoopThread thread;
  ThreadLoop& loop = thread.loop();
  std::promise<void> fired;
  Timer timer;
  bool stop = false;
  std::function<void()> busy = [&] {
    if (!stop) return loop.post(busy);
    timer = Timer();
    fired.set_value();
  };
  loop.post([&] {
    timer = loop.after(1ms, [&] { stop = true; });
    busy();
  });
  get(fired.get_future());
}

TEST(ThreadLoop, HandlersOfAsioRunOnTheLoop) {
  LoopThread thread;
  std::promise<bool> ran;
  boost::asio::post(thread.loop().io(), [&] { ran.set_value(thread.loop().runs_here()); });
  EXPECT_TRUE(get(ran.get_future()));
}

TEST(ThreadLoop, AsksPollersForWorkAndArmsThemBeforeItSleeps) {
  struct Device final : Poller {
    bool poll() noexcept override {
      if (!work.exchange(false)) return false;
      done.set_value();
      return true;
    }
    bool arm() noexcept override {
      // The first time there is work at the last moment: the loop must not sleep.
      if (!armed) work = true;
      armed = true;
      return !work;
    }
    std::atomic<bool> work{false};
    bool armed = false;
    std::promise<void> done;
  } device;
  LoopThread thread;
  thread.loop().post([&] { thread.loop().add_poller(device); });
  get(device.done.get_future());
  std::promise<void> removed;
  thread.loop().post([&] {
    thread.loop().remove_poller(device);
    removed.set_value();
  });
  get(removed.get_future());
}

TEST(ThreadLoop, ATimerFiresThoughAPollerFindsWorkForEver) {
  struct Device final : Poller {
    bool poll() noexcept override { return true; }
    bool arm() noexcept override { return false; }
  } device;
  for (const auto spin : {0us, 20us}) {
    LoopThread thread({.spin = spin});
    std::promise<void> fired;
    Timer timer;
    thread.loop().post([&] {
      thread.loop().add_poller(device);
      timer = thread.loop().after(1ms, [&] { fired.set_value(); });
    });
    get(fired.get_future());
    thread.join();
  }
}

TEST(ThreadLoop, RunsWhatWasPostedBeforeStopAndDropsTheRest) {
  std::vector<int> order;
  CountingJob before(order, 1), after(order, 2);
  {
    ThreadLoop loop;
    loop.post(before);
    loop.stop();
    loop.run();
    EXPECT_EQ(order, std::vector<int>{1});
    loop.post(after);
  }
  EXPECT_EQ(order, (std::vector<int>{1, -2}));
}

std::shared_ptr<void> at_its_end(std::function<void()> work) {
  return {nullptr, [work = std::move(work)](void*) { work(); }};
}

TEST(ThreadLoop, DropsAlsoWhatTheDroppedPost) {
  std::vector<int> order;
  CountingJob of_job(order, 1), of_handler(order, 2), of_that(order, 3);
  {
    ThreadLoop loop;
    loop.post([held = at_its_end([&] { loop.post(of_job); })] {});
    boost::asio::post(loop.io(), [held = at_its_end([&] {
                                    loop.post(of_handler);
                                    loop.post([held = at_its_end([&] { loop.post(of_that); })] {});
                                  })] {});
  }
  EXPECT_EQ(order, (std::vector<int>{-1, -2, -3}));
}

TEST(ThreadLoop, JobsOfOtherThreadsRunThoughJobsPostEachOtherForEver) {
  LoopThread thread;
  std::promise<int> ran;
  bool over = false;
  int rounds = 0;
  std::function<void()> again = [&] {
    if (!over) return thread.loop().post(again);
    ran.set_value(rounds);
  };
  thread.loop().post(again);
  for (int i = 1; i <= 3; ++i) {
    std::promise<void> came;
    thread.loop().post([&] {
      ++rounds;
      over = i == 3;
      came.set_value();
    });
    get(came.get_future());
  }
  EXPECT_EQ(get(ran.get_future()), 3);
}

TEST(ThreadLoop, StopsThoughJobsPostEachOtherForEver) {
  std::function<void()> again;
  LoopThread thread;
  again = [&] { thread.loop().post(again); };
  thread.loop().post(again);
}

}  // namespace
}  // namespace troupe::actor
