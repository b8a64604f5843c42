#include "parallel/schedule/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include "runtime/base/check.h"
#include "runtime/base/xml.h"

namespace troupe::parallel {
namespace {

constexpr double kWidth = 1000, kTop = 84, kRight = 20, kBottom = 40;
constexpr double kLane = 34, kComputing = 22, kStrip = 5;  // a lane's pitch, and what is drawn of it
constexpr double kThinnest = 0.4;                          // what is thinner is joined to its neighbour

struct Look {
  std::string_view name;  // class and legend
  std::string_view light, dark;
};
constexpr std::array<Look, kSpanKinds> kLooks{{{"forward", "#4c86c6", "#4f8fd6"},
                                               {"backward", "#3f9b6c", "#3fa574"},
                                               {"weights", "#9bb83c", "#a3bf45"},
                                               {"update", "#8a6fc0", "#9a80d0"},
                                               {"communication", "#e08a2b", "#eb9a3f"}}};
const Look& look_of(SpanKind kind) { return kLooks[static_cast<size_t>(kind)]; }

std::string style() {
  const auto colours = [](bool dark) {
    std::string text = dark ? ".ground{fill:#16191d}.idle{fill:#2a2f36}text{fill:#d8dde3}"
                            : ".ground{fill:#ffffff}.idle{fill:#e9ecef}text{fill:#24292f}";
    for (const Look& look : kLooks) text += fmt::format(".{}{{fill:{}}}", look.name, dark ? look.dark : look.light);
    return text;
  };
  return fmt::format(
      "<style>{}@media (prefers-color-scheme: dark){{{}}}.label{{fill:#ffffff;font-size:11px}}</style>\n",
      colours(false), colours(true));
}

std::string rectangle(std::string_view name, double x, double y, double width, double height, int shade = 0) {
  const std::string pale = shade > 0 ? fmt::format(" opacity=\"{:.2f}\"", std::pow(0.78, std::min(shade, 4))) : "";
  return fmt::format("<rect class=\"{}\" x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\"{}/>\n", name, x,
                     y, width, height, pale);
}

std::string legend(const Timeline& timeline, double left) {
  std::string text;
  double x = left;
  const auto add = [&](std::string_view name) {
    text += rectangle(name, x, 46, 14, 14);
    text += fmt::format("<text x=\"{:.1f}\" y=\"58\">{}</text>\n", x + 20, name);
    x += 44 + 7.5 * static_cast<double>(name.size());
  };
  for (size_t kind = 0; kind < kLooks.size(); ++kind) {
    const auto of_kind = [&](const TimelineSpan& span) { return span.kind == static_cast<SpanKind>(kind); };
    if (std::ranges::any_of(timeline.spans, of_kind)) add(kLooks[kind].name);
  }
  add("idle");
  return text;
}

// Neighbours of one lane and kind that are too thin to be told apart become one.
std::vector<TimelineSpan> joined(std::vector<TimelineSpan> spans, double thinnest) {
  std::ranges::sort(spans, {}, [](const TimelineSpan& s) { return std::tuple(s.lane, s.kind, s.begin, s.end); });
  std::vector<TimelineSpan> result;
  for (TimelineSpan& span : spans) {
    const bool thin = span.end - span.begin < thinnest;
    if (TimelineSpan* last = result.empty() ? nullptr : &result.back();
        last && thin && last->lane == span.lane && last->kind == span.kind && span.begin - last->end < thinnest) {
      last->end = std::max(last->end, span.end);
    } else {
      result.push_back(std::move(span));
    }
  }
  return result;
}

}  // namespace

std::string draw_timeline(const Timeline& timeline) {
  double begin = 0, end = 1;
  size_t longest = 0;
  for (const std::string& lane : timeline.lanes) longest = std::max(longest, lane.size());
  if (!timeline.spans.empty()) {
    begin = std::ranges::min(timeline.spans, {}, &TimelineSpan::begin).begin;
    end = std::max(std::ranges::max(timeline.spans, {}, &TimelineSpan::end).end, begin);
  }
  const double left = 24 + 7.5 * static_cast<double>(longest), inner = kWidth - left - kRight;
  const double scale = end > begin ? inner / (end - begin) : 1;
  const double height = kTop + kLane * static_cast<double>(timeline.lanes.size()) + kBottom;
  const auto px = [&](double time) { return left + (time - begin) * scale; };
  const auto lane_top = [](int lane) { return kTop + kLane * lane; };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n",
      kWidth, height);
  svg += style() + "<rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n";
  svg += fmt::format("<text x=\"16\" y=\"28\" font-size=\"16\">{}</text>\n", xml_text(timeline.title));
  svg += legend(timeline, 16);
  for (size_t i = 0; i < timeline.lanes.size(); ++i) {
    const double top = lane_top(static_cast<int>(i));
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", left - 8, top + 16,
                       xml_text(timeline.lanes[i]));
    svg += rectangle("idle", left, top, inner, kComputing + 1 + kStrip);
  }
  for (const TimelineSpan& span : joined(timeline.spans, kThinnest / scale)) {
    TROUPE_CHECK(span.lane >= 0 && span.lane < static_cast<int>(timeline.lanes.size()) && span.end >= span.begin,
                 "a span from {} to {} in lane {} of {}", span.begin, span.end, span.lane, timeline.lanes.size());
    const bool strip = span.kind == SpanKind::communication;
    const double top = lane_top(span.lane), x = px(span.begin), width = (span.end - span.begin) * scale;
    // A hair of the lane shows between neighbours that are wide enough to be seen as two.
    const double shown = std::max(width > 4 ? width - 0.8 : width, kThinnest);
    svg += rectangle(look_of(span.kind).name, x, strip ? top + kComputing + 1 : top, shown, strip ? kStrip : kComputing,
                     span.shade);
    if (!strip && !span.label.empty() && width > 4 + 6.5 * static_cast<double>(span.label.size())) {
      svg += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                         x + shown / 2, top + 15, xml_text(span.label));
    }
  }
  const double bottom = height - 14;
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">0</text>\n", left, bottom);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}{}{}</text>\n", kWidth - kRight, bottom,
                     end - begin, timeline.unit.empty() ? "" : " ", xml_text(timeline.unit));
  return svg + "</svg>\n";
}

}  // namespace troupe::parallel
