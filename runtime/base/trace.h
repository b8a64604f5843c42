// What ran when, on request: spans of compute, communication and messages, told to an injected sink. chrome_trace.h
// writes them for chrome://tracing and Perfetto.
#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

namespace troupe {

// Lanes of one process, or of one rank that is a thread: spans of a lane nest.
constexpr int64_t kStepLane = 0;           // what a rank does, phase by phase
constexpr int64_t kCommunicationLane = 1;  // its collectives
constexpr int64_t kLoopLane = 2;           // handlers, a lane for each loop from here on

struct TraceArgument {
  std::string_view name;
  std::variant<int64_t, std::string_view> value;
};

struct TraceSpan {
  std::string_view category = {};     // "message", "compute", "communication"
  std::string_view name = {};         // "Trainer::step"
  std::string_view detail = {};       // whose, or which: "head/trainer 3"; "": nobody's
  std::chrono::nanoseconds begin{0};  // of the process's steady clock, or of its virtual one
  std::chrono::nanoseconds duration{0};
  int64_t lane = 0;
  // The message that is handled; 0: none. Its upper half is the same for everything that one message caused, on all
  // nodes.
  uint64_t trace = 0;
  bool arrived = false;  // the handling of that message begins here, and someone told of sending it
  std::span<const TraceArgument> arguments = {};
};

// Thread-safe.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void span(const TraceSpan& span) = 0;
  // A message has left a span of that lane; the one that has it as `trace` and `arrived` is where it came.
  virtual void sent(uint64_t trace, std::chrono::nanoseconds at, int64_t lane) = 0;
  // Hands on what is kept back.
  virtual void flush() {}
};

}  // namespace troupe
