// Measures what messages between actors cost: on one thread, between threads, between processes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace troupe::launcher {

struct ActorFigure {
  std::string name;   // "same-thread message"
  std::string unit;   // "ns", "us", "ms", "bytes", "messages/s", "GB/s"
  double median = 0;  // of the repetitions
  double best = 0;
  double goal = 0;  // at most this (rates: at least); 0: none
  int repetitions = 0;
};

struct ActorMeasureOptions {
  double scale = 1;  // of the number of messages
  int repetitions = 7;
};

// Within this process, on one and two threads. Blocks.
std::vector<ActorFigure> measure_local_actors(const ActorMeasureOptions& options);

// Between this process and one that `program` (this program) is started as, over "tcp" or "ucx". Errors: the
// transport is not there, the process does not come.
Result<std::vector<ActorFigure>> measure_remote_actors(const std::string& transport, const std::string& program,
                                                       const ActorMeasureOptions& options);
// The other process's part: dials `address` and answers until the link ends. `spin_us`: how long its loop spins.
Status serve_remote_actors(const std::string& transport, const std::string& address, int64_t spin_us);

}  // namespace troupe::launcher
