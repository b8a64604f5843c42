#include "runtime/base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>

#include "runtime/base/check.h"

namespace troupe {
namespace {

volatile sig_atomic_t other_calls = 0;
void count_other(int) { other_calls = other_calls + 1; }

TEST(StopSignals, EachSignalAsksToStopAndIsNamed) {
  for (const auto& [signal, name] : {std::pair{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}}) {
    StopSignals signals;
    EXPECT_FALSE(signals.stop_requested());
    EXPECT_EQ(signals.signal_name(), "");
    raise(signal);
    EXPECT_TRUE(signals.stop_requested());
    EXPECT_EQ(signals.signal(), signal);
    EXPECT_EQ(signals.signal_name(), name);
  }
}

TEST(StopSignals, TheFirstSignalIsTheReason) {
  StopSignals signals;
  raise(SIGTERM);
  raise(SIGTERM);
  raise(SIGUSR1);
  raise(SIGINT);
  EXPECT_EQ(signals.signal_name(), "SIGTERM");
}

TEST(StopSignals, RestoresTheHandlersThatWere) {
  struct sigaction mine{}, before{};
  mine.sa_handler = count_other;
  sigaction(SIGUSR1, &mine, &before);
  {
    StopSignals signals;
    raise(SIGUSR1);
    EXPECT_EQ(other_calls, 0);
  }
  raise(SIGUSR1);
  EXPECT_EQ(other_calls, 1);
  sigaction(SIGUSR1, &before, nullptr);
}

// A handler that runs on another thread may end after the object has: what it uses must not end with that.
TEST(StopSignals, MayGoWhileSignalsCome) {
  struct sigaction ignored{}, before{}, before_report{};
  ignored.sa_handler = SIG_IGN;
  sigaction(SIGUSR1, &ignored, &before);
  sigaction(SIGQUIT, &ignored, &before_report);
  std::atomic<bool> enough = false;
  std::thread sender([&] {
    while (!enough) {
      raise(SIGUSR1);
      raise(SIGQUIT);
    }
  });
  int heard = 0;
  for (int i = 0; i < 2000 || heard == 0; ++i) {
    StopSignals signals;
    ReportSignal reports;
    heard += reports.wait() && signals.stop_requested() ? 1 : 0;
  }
  enough = true;
  sender.join();
  sigaction(SIGUSR1, &before, nullptr);
  sigaction(SIGQUIT, &before_report, nullptr);
}

TEST(StopSignals, OnlyOneMayLiveAtATime) {
  {
    StopSignals first;
    EXPECT_THROW(StopSignals(), CheckFailure);
    raise(SIGINT);
    EXPECT_TRUE(first.stop_requested());
  }
  StopSignals again;
  EXPECT_FALSE(again.stop_requested());
}

TEST(StopSignalsDeathTest, ASecondInterruptEndsTheProcess) {
  const auto twice = [] {
    StopSignals signals;
    raise(SIGINT);
    raise(SIGINT);
    std::exit(0);
  };
  EXPECT_EXIT(twice(), testing::ExitedWithCode(130), "interrupted again");
}

TEST(ReportSignal, EverySignalIsHeardOnceUntilReleased) {
  ReportSignal reports;
  raise(SIGQUIT);
  raise(SIGQUIT);
  EXPECT_TRUE(reports.wait());
  EXPECT_TRUE(reports.wait());
  std::thread other([&] { reports.release(); });
  EXPECT_FALSE(reports.wait());
  other.join();
}

TEST(ReportSignal, AfterwardsTheSignalDoesWhatItDidBefore) {
  struct sigaction mine{}, before{};
  mine.sa_handler = count_other;
  sigaction(SIGQUIT, &mine, &before);
  const int calls = other_calls;
  {
    ReportSignal reports;
    raise(SIGQUIT);
    EXPECT_THROW(ReportSignal(), CheckFailure);
    EXPECT_TRUE(reports.wait());
  }
  EXPECT_EQ(other_calls, calls);
  raise(SIGQUIT);
  EXPECT_EQ(other_calls, calls + 1);
  sigaction(SIGQUIT, &before, nullptr);
}

}  // namespace
}  // namespace troupe
