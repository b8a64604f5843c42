// Measures what messages between actors cost: on one thread and between threads.
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

}  // namespace troupe::launcher
