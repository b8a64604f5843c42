// CAF's side of the comparison (caf_bench.cpp): what launcher/commands/measure_actors.h and measure_links.h do, done by
// CAF's event-based actors. In a file of its own because its headers are C++17's.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace troupe::bench {

// Threads of CAF's scheduler. Each starts an actor system and blocks; throws where no result comes in time.

// Seconds a message.
double caf_ping_pong(int64_t throws, int threads);
// Messages a second.
double caf_fan_in(int64_t messages_of_each, int threads);

// An actor here that asks one in a process of its own over CAF's TCP.
class CafPair {
 public:
  // `start_peer` starts a process that calls serve_caf_peer(port).
  explicit CafPair(const std::function<void(uint16_t port)>& start_peer);
  ~CafPair();
  // Seconds from request to response, one after the other: the median.
  double round_trip(int64_t asks);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Never returns before the process that listens at that port has gone, or ten minutes are over.
void serve_caf_peer(uint16_t port);

}  // namespace troupe::bench
