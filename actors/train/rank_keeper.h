// How a rank's process ended, told at once by the process that started it (mpirun would say it a second later, to
// people). `troupe worker` splits in two: the rank, and its keeper, which waits for the rank's end and tells the agent
// of the host how it ended, when, and what it wrote last. Neither outlives mpirun.
//
// A report is a datagram to an abstract address: nothing of it lies on a disk, or is left when someone is killed.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>

#include "runtime/base/process.h"

namespace troupe::train {

struct RankEnd {
  int rank = 0;
  pid_t pid = 0;
  ProcessEnd end;
  std::chrono::nanoseconds at{0};  // of CLOCK_MONOTONIC, which the processes of a host share
  std::string last_words;          // the last line on its stderr
};

// The agent's side. Hears only processes of its own user.
class RankEnds {
 public:
  // Errors (failed): there are no sockets.
  static Result<RankEnds> listen();
  ~RankEnds();
  RankEnds(RankEnds&& other) noexcept;
  RankEnds& operator=(RankEnds&& other) noexcept;

  const std::string& address() const { return address_; }
  // The next report; none if there is none yet. Does not block.
  std::optional<RankEnd> take();

 private:
  RankEnds(int socket, std::string address) : socket_(socket), address_(std::move(address)) {}
  int socket_;
  std::string address_;
};

// Returns in the rank's process; the keeper never returns: it ends as the rank did. REQUIRES: no other thread yet.
// Errors (failed): the process cannot be split.
Status keep_rank(int rank, const std::string& address);

}  // namespace troupe::train
