// What ran when, on request: spans of messages, compute and communication, told to an injected sink. chrome_trace.h
// writes them for chrome://tracing and Perfetto.
#pragma once
#include <chrono>
#include <cstdint>
#include <string_view>

namespace troupe {

struct TraceSpan {
  std::string_view category = {};     // "message", "compute", "communication"
  std::string_view name = {};         // "Trainer::step"
  std::string_view detail;            // whose: "head/trainer 3"; "": nobody's
  std::chrono::nanoseconds begin{0};  // of the process's steady clock, or of its virtual one
  std::chrono::nanoseconds duration{0};
  int64_t lane = 0;    // a thread, loop or rank: spans of one lane nest
  uint64_t trace = 0;  // the same for everything that one message caused, on all nodes; 0: none
};

// Thread-safe.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void span(const TraceSpan& span) = 0;
};

}  // namespace troupe
