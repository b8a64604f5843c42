#include "actors/train/rank_activity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace troupe::train {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

struct Recorded : TraceSink {
  void span(const TraceSpan& span) override {
    EXPECT_EQ(span.lane, kStepLane);
    spans.push_back(std::string(span.name) + " " + std::to_string(span.begin / 1ms) + "+" +
                    std::to_string(span.duration / 1ms) + " of step " +
                    std::to_string(std::get<int64_t>(span.arguments[0].value)));
  }
  void sent(uint64_t, std::chrono::nanoseconds, int64_t) override {}
  std::vector<std::string> spans;
};

TEST(RankActivity, SaysWhatTheRankIsInAndSinceWhen) {
  ManualClock clock;
  RankActivity activity(clock);
  EXPECT_EQ(activity.describe(), "idle for 0.0 s");
  activity.set_step(38);
  const Phase step(&activity, "step");
  clock.advance(1s);
  EXPECT_EQ(activity.describe(), "step 38: step for 1.0 s");
  {
    const Phase backward(&activity, "backward");
    clock.advance(500ms);
    EXPECT_EQ(activity.describe(), "step 38: backward for 0.5 s");
  }
  clock.advance(200ms);
  EXPECT_EQ(activity.describe(), "step 38: step for 0.2 s") << "since it is in no inner phase";
}

TEST(RankActivity, TellsPhasesToATraceAsTheyEnd) {
  ManualClock clock;
  Recorded trace;
  RankActivity activity(clock, &trace);
  activity.set_step(3);
  {
    const Phase step(&activity, "step");
    clock.advance(10ms);
    const Phase forward(&activity, "forward");
    clock.advance(5ms);
  }
  EXPECT_THAT(trace.spans, ElementsAre("forward 10+5 of step 3", "step 0+15 of step 3"));
}

}  // namespace
}  // namespace troupe::train
