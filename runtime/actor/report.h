// What every actor of a node does at one moment, and who waits for whom: what a person needs who looks at a job that
// does not go on.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/actor/cell.h"

namespace troupe::actor {

struct WaitLine {
  std::string what;   // "answer of rank 5 to Trainer::step"
  uint64_t node = 0;  // of whom it waits for; 0: nobody in particular
  ActorId actor = 0;
  std::chrono::nanoseconds waited{0};
  std::chrono::nanoseconds left{0};  // until its deadline; max: none
};

struct HandlerLine {
  std::string_view method;
  std::vector<WaitLine> waits;  // none: it runs, or waits for something that is not the runtime's
};

struct ActorLine {
  uint64_t node = 0;
  ActorId actor = 0;
  std::string name;
  int loop = 0;
  Cell::State state = Cell::State::running;
  ActorCounters counters;
  std::vector<HandlerLine> handlers;
};

struct NodeReport {
  std::string where;
  std::vector<ActorLine> actors;        // in no order
  std::vector<std::string> unanswered;  // "loop 1 runs Trainer::step of head/trainer and does not answer"

  // Actors that wait for each other in a circle: "a waits for answer of b to B::f (3 s) → b waits …".
  std::vector<std::string> cycles() const;
  // A line for every actor that is busy or stopping, or has messages; then the cycles.
  std::string text() const;
};

// What an actor that was told to stop is waiting for: itself, or the youngest of its line that has not ended.
// REQUIRES: its loop's thread; children on other loops are only named.
std::string describe_blockers(const Cell& cell);

}  // namespace troupe::actor
