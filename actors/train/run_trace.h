// The trace of a run: what each of its processes is called there. Head is 1, rank r is r + 2.
#pragma once
#include <memory>
#include <string>

#include "runtime/base/chrome_trace.h"

namespace troupe::train {

// `where`: "host gpu17, pid 411"; "" where the rank is a thread of the head.
inline std::unique_ptr<ChromeTrace> trace_of_rank(int rank, std::string where, std::chrono::nanoseconds origin) {
  auto trace =
      std::make_unique<ChromeTrace>(TraceProcess{rank + 2, fmt::format("rank {}", rank), std::move(where), origin});
  trace->name_lane(kStepLane, "steps");
  trace->name_lane(kCommunicationLane, "communication");
  return trace;
}

inline std::unique_ptr<ChromeTrace> trace_of_head(std::string where, std::chrono::nanoseconds origin) {
  auto trace = std::make_unique<ChromeTrace>(TraceProcess{1, "head", std::move(where), origin});
  trace->name_lane(kLoopLane, "loop 0: links");
  trace->name_lane(kLoopLane + 1, "loop 1: head");
  return trace;
}

inline ChromeTrace::Take into(TraceFile& file) {
  return [&file](const TracePiece& piece) {
    file.append(piece);
    return true;
  };
}

}  // namespace troupe::train
