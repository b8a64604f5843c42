#include "actors/train/loss_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/xml.h"

namespace troupe::train {
namespace {

constexpr double kWidth = 860, kHeight = 480, kLeft = 70, kRight = 24, kTop = 48, kBottom = 56;
constexpr size_t kMostPoints = 1500;  // of a polyline: more than the picture has pixels

struct Range {
  double low, high;
};

// Round tick distances: 1, 2 or 5 times a power of ten, about `count` of them.
double tick_distance(Range range, int count) {
  const double raw = std::max(range.high - range.low, 1e-9) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

struct Frame {
  Range x, y;
  double px(double step) const { return kLeft + (step - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double py(double loss) const {
    return kHeight - kBottom - (loss - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

// Held to a range in which sums and differences stay finite.
std::vector<LossPoint> finite(const std::vector<LossPoint>& points) {
  constexpr double kMost = 1e100;
  std::vector<LossPoint> result;
  for (const LossPoint& p : points) {
    if (std::isfinite(p.loss)) result.push_back({p.step, std::clamp(p.loss, -kMost, kMost)});
  }
  return result;
}

// The mean of each run of neighbours, so that at most kMostPoints are left.
std::vector<LossPoint> thinned(const std::vector<LossPoint>& points) {
  const size_t run = points.size() / kMostPoints + 1;
  std::vector<LossPoint> result;
  for (size_t i = 0; i < points.size(); i += run) {
    const size_t n = std::min(run, points.size() - i);
    double sum = 0;
    for (size_t j = i; j < i + n; ++j) sum += points[j].loss;
    result.push_back({points[i + n - 1].step, sum / static_cast<double>(n)});
  }
  return result;
}

std::vector<LossPoint> running_mean(const std::vector<LossPoint>& points) {
  std::vector<LossPoint> result;
  const double keep = 1 - 1 / std::max(2.0, static_cast<double>(points.size()) / 40);
  double mean = 0, weight = 0;
  for (const LossPoint& p : points) {
    mean = keep * mean + (1 - keep) * p.loss;
    weight = keep * weight + (1 - keep);
    result.push_back({p.step, mean / weight});
  }
  return result;
}

std::string polyline(const Frame& frame, const std::vector<LossPoint>& points, std::string_view style) {
  std::string text = "<polyline fill=\"none\" points=\"";
  for (const LossPoint& p : points) {
    text += fmt::format("{:.1f},{:.1f} ", frame.px(static_cast<double>(p.step)),
                        std::clamp(frame.py(p.loss), kTop, kHeight - kBottom));
  }
  return text + fmt::format("\" {}/>\n", style);
}

// The losses shown: from the least to the greatest of all but the first few, which tower over the rest.
Range loss_range(const std::vector<LossPoint>& training, const std::vector<LossPoint>& validation) {
  std::vector<double> losses;
  for (const auto* points : {&training, &validation}) {
    for (const LossPoint& p : *points) losses.push_back(p.loss);
  }
  if (losses.empty()) return {0, 1};
  std::ranges::sort(losses);
  const double low = losses.front(), high = losses[static_cast<size_t>(0.995 * static_cast<double>(losses.size() - 1))];
  // Wide enough that ticks differ in f64, however large the losses.
  const double margin = std::max({0.05 * (high - low), 1e-3, 1e-6 * std::abs(low), 1e-6 * std::abs(high)});
  return {low - margin, high + margin};
}

std::string axes(const Frame& frame) {
  std::string text;
  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  const double dy = tick_distance(frame.y, 6), dx = std::max(tick_distance(frame.x, 8), 1.0);
  for (double y = std::ceil(frame.y.low / dy) * dy; y <= frame.y.high; y += dy) {
    text += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e3e3e3\"/>", kLeft, right,
                        frame.py(y), frame.py(y));
    text += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>\n", kLeft - 8, frame.py(y) + 4,
                        std::abs(y) < dy / 2 ? 0.0 : y);
  }
  for (double x = std::ceil(frame.x.low / dx) * dx; x <= frame.x.high; x += dx) {
    text += fmt::format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\" stroke=\"#888\"/>", frame.px(x),
                        frame.px(x), bottom, bottom + 5);
    text +=
        fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n", frame.px(x), bottom + 20, x);
  }
  text += fmt::format("<polyline fill=\"none\" stroke=\"#888\" points=\"{},{} {},{} {},{}\"/>\n", kLeft, kTop, kLeft,
                      bottom, right, bottom);
  text +=
      fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n", (kLeft + right) / 2, kHeight - 14);
  text += fmt::format(
      "<text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">loss (nats per token)</text>\n",
      (kTop + bottom) / 2);
  return text;
}

}  // namespace

std::string draw_loss_curve(std::string_view title, const std::vector<LossPoint>& training,
                            const std::vector<LossPoint>& validation) {
  const std::vector<LossPoint> train = finite(training), held_out = finite(validation);
  double last = 1;
  for (const auto* points : {&train, &held_out}) {
    if (!points->empty()) last = std::max(last, static_cast<double>(points->back().step));
  }
  const Frame frame{{0, last}, loss_range(train, held_out)};
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += fmt::format("<text x=\"{}\" y=\"26\" font-size=\"16\">{}</text>\n", kLeft, xml_text(title));
  svg += axes(frame);
  svg += polyline(frame, thinned(train), "stroke=\"#b8cdea\" stroke-width=\"1\"");
  svg += polyline(frame, thinned(running_mean(train)), "stroke=\"#1f5fb4\" stroke-width=\"2\"");
  svg += polyline(frame, held_out, "stroke=\"#d1495b\" stroke-width=\"1.5\" stroke-dasharray=\"5 3\"");
  for (const LossPoint& p : held_out) {
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"#d1495b\"/>\n",
                       frame.px(static_cast<double>(p.step)), std::clamp(frame.py(p.loss), kTop, kHeight - kBottom));
  }
  const double x = kWidth - kRight - 190;
  svg += fmt::format(
      "<line x1=\"{0}\" x2=\"{1}\" y1=\"60\" y2=\"60\" stroke=\"#1f5fb4\" stroke-width=\"2\"/><text x=\"{2}\" "
      "y=\"64\">training (running mean)</text>\n",
      x, x + 24, x + 32);
  if (!held_out.empty()) {
    svg += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"80\" y2=\"80\" stroke=\"#d1495b\" stroke-dasharray=\"5 3\"/><circle "
        "cx=\"{3}\" cy=\"80\" r=\"3.5\" fill=\"#d1495b\"/><text x=\"{2}\" y=\"84\">held out: {4:.4f}</text>\n",
        x, x + 24, x + 32, x + 12, held_out.back().loss);
  }
  return svg + "</svg>\n";
}

}  // namespace troupe::train
