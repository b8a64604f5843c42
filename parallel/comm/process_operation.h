// One rank's part of an operation between processes: a machine that the engine advances, under its lock, as far as
// it goes without waiting. Two kinds: through shared memory (host_channel.h), through MPI (message_operation.h).
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/request.h"

namespace troupe::parallel {

class ProcessOperation {
 public:
  explicit ProcessOperation(Request&& r) : request(std::move(r)) {}
  virtual ~ProcessOperation() = default;

  // Goes on as far as it can, and not for long; true if it moved. Sets complete, or problem.
  virtual bool advance() = 0;
  // Ranks of the group it waits for.
  virtual std::vector<int> absent() const = 0;
  // The group is aborted: takes its buffers back. False while MPI may still touch them.
  virtual bool release() = 0;

  Request request;
  const std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  std::atomic<bool> complete{false};
  std::string problem;       // why the group has to end: ranks disagree, MPI failed, a rank left
  bool holds_order = false;  // receive: later ones of its peer and tag are not advanced yet
};

}  // namespace troupe::parallel
