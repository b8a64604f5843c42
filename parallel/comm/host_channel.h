// Collectives of processes of one host through shared memory. Every rank has a stage: two buffers that it alone
// writes and the others read. An operation goes in rounds of as many bytes as a stage holds; in each, a rank
//   fills its stage (what the others need of its input), then counts `filled` up,
//   reads the others' stages once they have filled them (and reduces, in the order of ranks), counts `read` up,
//   all_reduce: takes the others' results out of their stages once they have read, counts `taken` up.
// Counters only grow, over all operations, and a buffer is filled again when nobody needs what is in it: no barrier
// is needed, and a rank runs ahead of the others by up to two rounds.
//
// Memory order: a counter is stored with release after the bytes it counts, and loaded with acquire before they
// are read, or overwritten.
#pragma once
#include <memory>
#include <vector>

#include "parallel/comm/process_family.h"
#include "parallel/comm/process_operation.h"

namespace troupe::parallel {

class HostChannel {
 public:
  static size_t bytes_for(int ranks);
  // bells[r]: rank r's process on this host. Memory begins as zeros.
  HostChannel(SharedSegment segment, int rank, std::vector<int> bells, std::shared_ptr<ProcessFamily> family,
              std::string group_name);
  ~HostChannel();  // tells the others that this rank starts nothing any more
  HostChannel(const HostChannel&) = delete;
  HostChannel& operator=(const HostChannel&) = delete;

  // Operations of a channel are advanced one after the other, in the order they were made.
  std::unique_ptr<ProcessOperation> make_operation(Request&& request);

 private:
  friend class HostOperation;
  struct State;  // one rank's counters and what it has started

  State& state(int rank) const;
  int64_t* counts(int rank, uint64_t operation) const;  // all_to_all: elements for each rank
  std::byte* stage(int rank, uint64_t round) const;
  void announce() const;  // after a counter of ours has moved

  SharedSegment segment_;
  const int rank_, size_;
  const std::vector<int> bells_;
  const std::shared_ptr<ProcessFamily> family_;
  const std::string group_name_;
  uint64_t operations_ = 0;  // made
  uint64_t rounds_ = 0;      // of the operations that are complete
};

}  // namespace troupe::parallel
