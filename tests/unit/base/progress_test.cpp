#include "runtime/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace troupe {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class ProgressTest : public testing::Test {
 protected:
  ProgressOutput plain() {
    return {[this](std::string_view text) { written.emplace_back(text); }, false, {}};
  }
  ProgressOutput terminal() {
    return {[this](std::string_view text) { written.emplace_back(text); }, true, [this] { return columns; }};
  }

  ManualClock clock;
  int columns = 80;
  std::vector<std::string> written;
};

TEST_F(ProgressTest, ATerminalLineIsRewrittenInPlace) {
  const std::vector<std::string> a{"one", "two"}, b{"three"};
  {
    ProgressLine line(clock, terminal());
    EXPECT_TRUE(line.due());
    line.show(a);
    EXPECT_FALSE(line.due());
    clock.advance(99ms);
    EXPECT_FALSE(line.due());
    clock.advance(1ms);
    EXPECT_TRUE(line.due());
    line.finish(b);
  }
  EXPECT_THAT(written, ElementsAre("\rone  two\033[K", "\rthree\033[K", "\n"));
}

TEST_F(ProgressTest, AnUnfinishedTerminalLineIsEnded) {
  const std::vector<std::string> fields{"one"};
  {
    ProgressLine(clock, terminal()).show(fields);
  }
  EXPECT_THAT(written, ElementsAre("\rone\033[K", "\n"));
}

TEST_F(ProgressTest, ANarrowTerminalLeavesOutTheLastFields) {
  const std::vector<std::string> fields{"step 1/2", "loss 3", "fast"};
  ProgressLine line(clock, terminal());
  for (const int width : {23, 22, 17, 16, 9, 8, 1, 0}) {
    columns = width;
    line.show(fields);
  }
  line.finish(fields);
  EXPECT_THAT(written,
              ElementsAre("\rstep 1/2  loss 3  fast\033[K", "\rstep 1/2  loss 3\033[K", "\rstep 1/2  loss 3\033[K",
                          "\rstep 1/2\033[K", "\rstep 1/2\033[K", "\rstep 1/\033[K", "\rs\033[K",
                          "\rstep 1/2  loss 3  fast\033[K", "\rstep 1/2  loss 3  fast\033[K", "\n"));
}

TEST_F(ProgressTest, LettersOfSeveralBytesAreCountedOnceAndNeverCut) {
  const std::vector<std::string> fields{"ééé한", "x"};
  ProgressLine line(clock, terminal());
  for (const int width : {8, 5, 4}) {
    columns = width;
    line.show(fields);
  }
  EXPECT_THAT(written, ElementsAre("\rééé한  x\033[K", "\rééé한\033[K", "\rééé\033[K"));
}

TEST_F(ProgressTest, PlainLinesComeAtGrowingIntervalsUpToTheLongest) {
  const std::vector<std::string> fields{"x"};
  ProgressLine line(clock, plain(), {.first_plain_seconds = 1, .plain_growth = 2, .longest_plain_seconds = 5});
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) {
    if (line.due()) {
      line.show(fields);
      times.push_back(clock.seconds());
    }
    clock.advance(100ms);
  }
  EXPECT_THAT(times, ElementsAre(0, 1, 3, 7, 12, 17));
  EXPECT_EQ(written.front(), "x\n");
}

TEST_F(ProgressTest, TheRateFollowsAChangeOfSpeed) {
  RateMeter meter(clock, 10);
  EXPECT_EQ(meter.update(0), 0);  // no time has passed
  clock.advance(1s);
  double done = 5;
  EXPECT_DOUBLE_EQ(meter.update(done), 5);
  for (int i = 0; i < 100; ++i) {
    clock.advance(1s);
    meter.update(done += 100);
  }
  // Ten half-lives: what came before weighs a thousandth.
  EXPECT_NEAR(meter.update(done), 100, 0.2);
  for (int i = 0; i < 10; ++i) {
    clock.advance(1s);
    meter.update(done += 200);
  }
  EXPECT_NEAR(meter.update(done), 150,
              5);  // one half-life: about halfway; the first 100 s weigh a little less than half
}

TEST_F(ProgressTest, TrainingShowsStepLossSpeedAndWhatIsLeft) {
  TrainingProgress progress(clock, plain(), 100, 1100);
  clock.advance(1s);
  progress.update(110, 2.34567, 12'340, 0.412);
  clock.advance(500ms);
  progress.update(115, 2.3, 6170, std::nan(""));
  progress.finish();
  EXPECT_THAT(written, ElementsAre("step 110/1100  loss 2.3457  12.3K tokens/s  MFU 41.2%  ETA 1m39s\n",
                                   "step 115/1100  loss 2.3000  12.3K tokens/s  ETA 1m39s\n"));
}

TEST_F(ProgressTest, TheLastPlainLineIsNotRepeatedAndHasNothingLeft) {
  TrainingProgress progress(clock, plain(), 0, 1);
  clock.advance(1s);
  progress.update(1, 2, 10, 0);
  progress.finish();
  EXPECT_THAT(written, ElementsAre("step 1/1  loss 2.0000  10 tokens/s\n"));
}

TEST_F(ProgressTest, TrainingWithoutAStepShowsNothing) {
  TrainingProgress progress(clock, plain(), 0, 10);
  progress.finish();
  EXPECT_TRUE(written.empty());
}

TEST_F(ProgressTest, BytesShowShareSpeedAndWhatIsLeft) {
  ByteProgress progress(clock, plain(), "tokenizing", 200 << 20);
  progress.advance(0);
  clock.advance(2s);
  progress.advance(20 << 20);
  clock.advance(100ms);
  progress.advance(180 << 20);
  clock.advance(17'900ms);
  progress.finish();
  EXPECT_THAT(written, ElementsAre("tokenizing 0 B of 200 MiB (0%)\n",
                                   "tokenizing 20.0 MiB of 200 MiB (10%)  10.0 MiB/s  ETA 18s\n",
                                   "tokenizing 200 MiB in 20s, 10.0 MiB/s\n"));
}

TEST_F(ProgressTest, BytesWithoutATotalShowWhatIsDone) {
  ByteProgress progress(clock, plain(), "saving", 0);
  clock.advance(1s);
  progress.advance(3 << 20);
  EXPECT_THAT(written, ElementsAre("saving 3.0 MiB  3.0 MiB/s\n"));
}

TEST_F(ProgressTest, SeveralThreadsMayAdvanceTheBytes) {
  ByteProgress progress(clock, plain(), "x", 4000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) progress.advance(1);
    });
  }
  for (auto& thread : threads) thread.join();
  progress.finish();
  EXPECT_EQ(written.back(), "x 3.9 KiB in 0us\n");
}

}  // namespace
}  // namespace troupe
