// An operation that is told to a trace once it has been waited for.
#pragma once
#include "parallel/comm/request.h"
#include "runtime/base/trace.h"

namespace troupe::parallel {

inline std::chrono::nanoseconds steady_now() { return std::chrono::steady_clock::now().time_since_epoch(); }

struct TracedOperation {
  TraceSink& sink;
  // Where the last span of the lane ended: operations overlap, spans of a lane nest.
  std::shared_ptr<std::chrono::nanoseconds> until;
  Signature signature;
  int64_t bytes = 0;  // of this rank's input
  std::string group;
  std::chrono::nanoseconds begun;
};

Pending trace_operation(TracedOperation traced, Pending pending);

}  // namespace troupe::parallel
