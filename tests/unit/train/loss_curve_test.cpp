#include "actors/train/loss_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <limits>

namespace troupe::train {
namespace {

using testing::HasSubstr;
using testing::Not;

// Enough of XML for pictures: tags nest and close, attributes are quoted, & and < stand for nothing else.
std::string what_is_wrong(std::string_view xml) {
  std::vector<std::string> open;
  size_t i = 0;
  const auto name = [&] {
    std::string found;
    while (i < xml.size() && (std::isalnum(static_cast<unsigned char>(xml[i])) || xml[i] == '-')) found += xml[i++];
    return found;
  };
  while (i < xml.size()) {
    const char c = xml[i++];
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return "a control character";
    if (c == '&') {
      if (xml.substr(i, 3) != "lt;" && xml.substr(i, 4) != "amp;") return "a bare &";
      continue;
    }
    if (c != '<') continue;
    if (xml[i] == '/') {
      ++i;
      const std::string closed = name();
      if (open.empty() || open.back() != closed || xml[i++] != '>') return "</" + closed + ">";
      open.pop_back();
      continue;
    }
    open.push_back(name());
    while (i < xml.size() && xml[i] != '>' && xml[i] != '/') {
      while (i < xml.size() && std::isspace(static_cast<unsigned char>(xml[i]))) ++i;
      if (xml[i] == '>' || xml[i] == '/') break;
      if (name().empty() || xml.substr(i, 2) != "=\"") return "an attribute of <" + open.back() + ">";
      i = xml.find_first_of("\"<&", i + 2);
      if (i == std::string_view::npos || xml[i] != '"') return "a value in <" + open.back() + ">";
      ++i;
    }
    if (xml[i] == '/') {
      open.pop_back();
      ++i;
    }
    if (xml[i++] != '>') return "the end of a tag";
  }
  return open.empty() ? "" : "<" + open.back() + "> is open";
}

std::string draw(const std::vector<LossPoint>& training, const std::vector<LossPoint>& validation = {}) {
  const std::string svg = draw_loss_curve("a run", training, validation);
  EXPECT_EQ(what_is_wrong(svg), "");
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  return svg;
}

TEST(LossCurve, TheCheckerFindsWhatIsWrong) {
  EXPECT_EQ(what_is_wrong("<a b=\"c\"><d/>x &amp; y</a>\n"), "");
  for (const char* bad : {"<a>", "<a></b>", "<a b=c/>", "x & y", "<a b=\"<\"/>", "</a>"}) {
    EXPECT_NE(what_is_wrong(bad), "") << bad;
  }
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
  EXPECT_EQ(what_is_wrong(svg), "");
  EXPECT_THAT(svg, HasSubstr("&lt;b> &amp;   \"c\""));
}

}  // namespace
}  // namespace troupe::train
