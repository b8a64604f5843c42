// What ranks do over time as a picture: an SVG with a lane for each rank. It is drawn from a plain list of spans, so a
// simulated step (simulate.h) and the trace of a real one look the same.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::parallel {

enum class SpanKind : uint8_t { forward, backward, weights, update, communication };
constexpr int kSpanKinds = 5;

struct TimelineSpan {
  int lane = 0;
  SpanKind kind = SpanKind::forward;
  double begin = 0, end = 0;  // in the timeline's unit
  std::string label = {};     // stands in it where there is room: the microbatch
  int shade = 0;              // virtual stage: the further ones are paler
};

struct Timeline {
  std::string title;
  std::string unit;                // of time: "ms"; "": none is said
  std::vector<std::string> lanes;  // "rank 0"
  std::vector<TimelineSpan> spans;
};

// Computing fills a lane's upper part, communication runs in a strip below it, and where neither is, the lane is idle.
// The picture brings its background, light or dark as the reader's screen is. Time begins at the first span. Spans
// thinner than the picture can show are joined. REQUIRES: spans lie in lanes, and end no earlier than they begin.
std::string draw_timeline(const Timeline& timeline);

}  // namespace troupe::parallel
