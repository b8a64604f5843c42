// Messages under way: what one rank has posted to MPI and not seen through.
#pragma once
#include <stdexcept>
#include <vector>

#include "parallel/comm/mpi_calls.h"

namespace troupe::parallel {

class MpiFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Every call throws MpiFailure with MPI's words. Buffers stay where they are until settled.
class Transfers {
 public:
  explicit Transfers(const MpiCalls& calls) : calls_(calls) {}

  // Any number of bytes, cut where MPI's counts end; none for no bytes.
  void send(const void* data, int64_t bytes, int to, int tag);
  void receive(void* data, int64_t bytes, int from, int tag);
  void receive_from_any(void* data, int bytes, int tag);
  // Tests what is under way; true when nothing is. `moved` is set when something finished.
  bool settle(bool& moved);
  // World ranks that a message is awaited from.
  std::vector<int> awaited() const;
  // Gives up: cancels receives. True when nothing is under way.
  bool cancel();

 private:
  struct Message {
    MpiRequest request;
    int from;  // -1: a send
  };
  void check(const char* error) const {
    if (error) throw MpiFailure(error);
  }

  const MpiCalls& calls_;
  std::vector<Message> messages_;
};

}  // namespace troupe::parallel
