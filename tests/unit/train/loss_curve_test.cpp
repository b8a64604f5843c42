#include "actors/train/loss_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/unit/xml_checker.h"

namespace troupe::train {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string draw(const std::vector<LossPoint>& training, const std::vector<LossPoint>& validation = {}) {
  const std::string svg = draw_loss_curve("a run", training, validation);
  EXPECT_EQ(what_is_wrong_in_xml(svg), "");
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  return svg;
}

TEST(LossCurve, DrawsNothingOnePointAndMany) {
  draw({});
  draw({}, {{10, 2.5}});
  EXPECT_THAT(draw({{1, 4}}), HasSubstr("<polyline"));
  std::vector<LossPoint> training, validation;
  for (int64_t step = 1; step <= 20'000; ++step) {
    const auto x = static_cast<double>(step);
    training.push_back({step, 2 + 8 / std::sqrt(x) + 0.1 * std::sin(x)});
    if (step % 5000 == 0) validation.push_back({step, 2.125});
  }
  const std::string svg = draw(training, validation);
  EXPECT_THAT(svg, HasSubstr("held out: 2.1250"));
  EXPECT_LT(svg.size(), 100'000u);  // thinned
}

TEST(LossCurve, LossesThatAreAlikeHugeOrNotFiniteDrawToo) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  draw({{1, 3}, {2, 3}, {3, 3}});
  draw({{1, 0}});
  draw({{1, 1e20}});
  draw({{1, 1e308}, {2, 1e308}, {3, -1e308}});
  draw({{1, 5}, {2, kInfinity}, {3, std::nan("")}, {4, 1e13}}, {{4, kInfinity}});
  draw({{1'000'000'000'000, 2}, {2'000'000'000'000, 1}});
}

TEST(LossCurve, TicksOfAShortRunAreWholeStepsOnce) {
  const std::string svg = draw({{1, 3}, {2, 2}, {3, 1}});
  for (const char* label : {">0<", ">1<", ">2<", ">3<"}) {
    const std::string middle = "text-anchor=\"middle\"" + std::string(label);
    const size_t at = svg.find(middle);
    ASSERT_NE(at, std::string::npos) << label;
    EXPECT_EQ(svg.find(middle, at + 1), std::string::npos) << label;
  }
}

TEST(LossCurve, ATitleIsText) {
  const std::string svg = draw_loss_curve("<b> & \x01\n\"c\"", {{1, 2}}, {});
  EXPECT_EQ(what_is_wrong_in_xml(svg), "");
  EXPECT_THAT(svg, HasSubstr("&lt;b> &amp;   \"c\""));
}

}  // namespace
}  // namespace troupe::train
