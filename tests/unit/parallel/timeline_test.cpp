#include "parallel/schedule/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/schedule/simulate.h"
#include "tests/unit/parallel/test_plans.h"
#include "tests/unit/xml_checker.h"

namespace troupe::parallel {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string draw(const Timeline& timeline) {
  const std::string svg = draw_timeline(timeline);
  EXPECT_EQ(what_is_wrong_in_xml(svg), "");
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  return svg;
}

size_t count(const std::string& text, std::string_view what) {
  size_t n = 0;
  for (size_t i = text.find(what); i != std::string::npos; i = text.find(what, i + 1)) ++n;
  return n;
}

TEST(Timeline, DrawsASimulatedStepWithALaneForEachRank) {
  const StepPlan plan = pipeline_plan(Schedule::interleaved, 4, 2, 8, 8);
  const Result<Simulation> simulation = simulate(plan, all_instructions(plan), pass_durations(plan, 1, 2, 0.2));
  ASSERT_TRUE(simulation.ok());
  const std::string svg = draw({"interleaved", "ms", {"stage 0", "stage 1", "stage 2", "stage 3"}, simulation->spans});
  // Beside the legend: each pass is drawn and has its number.
  EXPECT_EQ(count(svg, "<rect class=\"forward\""), 1u + 4 * 16);
  EXPECT_EQ(count(svg, "<rect class=\"backward\""), 1u + 4 * 16);
  EXPECT_EQ(count(svg, "<rect class=\"communication\""), 1u + 2 * 2 * 7 * 8);
  EXPECT_EQ(count(svg, "<rect class=\"idle\""), 1u + 4);
  EXPECT_EQ(count(svg, "class=\"label\""), 2u * 4 * 16);
  EXPECT_THAT(svg, HasSubstr(">stage 3<"));
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(svg, Not(HasSubstr(">weights<")));  // the legend has what there is
}

TEST(Timeline, NothingAndNoTimeDrawToo) {
  draw({});
  draw({"empty", "", {"rank 0"}, {}});
  draw({"a moment", "", {"rank 0"}, {{0, SpanKind::forward, 5, 5}}});
  draw({"long ago", "s", {"rank 0"}, {{0, SpanKind::update, 1e15, 1e15 + 1}}});
}

TEST(Timeline, NamesAreText) {
  const std::string svg = draw({"<b> & c", "&", {"<rank>"}, {{0, SpanKind::forward, 0, 1, "<&>"}}});
  EXPECT_THAT(svg, HasSubstr("&lt;rank>"));
}

TEST(Timeline, TimeBeginsAtTheFirstSpan) {
  const std::string svg =
      draw({"", "ms", {"r"}, {{0, SpanKind::forward, 100, 102.5}, {0, SpanKind::backward, 103, 104}}});
  EXPECT_THAT(svg, HasSubstr(">4 ms<"));
}

TEST(Timeline, ThousandsOfSpansThatNobodyCouldSeeAreJoined) {
  Timeline timeline{.title = "a trace", .unit = "s", .lanes = {"rank 0", "rank 1"}, .spans = {}};
  for (int i = 0; i < 200'000; ++i) timeline.spans.push_back({i % 2, SpanKind::forward, i * 1e-3, i * 1e-3 + 9e-4});
  EXPECT_LT(draw(timeline).size(), 20'000u);
  // Joined, they still fill their lanes.
  EXPECT_THAT(draw_timeline(timeline), HasSubstr("<rect class=\"forward\""));
}

TEST(Timeline, ASpanOfNoLaneIsABug) {
  EXPECT_THROW(draw_timeline({"", "", {"rank 0"}, {{1, SpanKind::forward, 0, 1}}}), CheckFailure);
}

}  // namespace
}  // namespace troupe::parallel
