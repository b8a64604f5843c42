// Operations by messages: collectives of groups that span hosts, and point to point everywhere. A collective begins
// with a header from each rank to each, which is how ranks learn that they do the same; then the pieces go straight
// to the rank that needs them. What is reduced is cut into shares, one for each rank, which gathers all ranks'
// parts of its share and adds them in the order of ranks: the bits of shared memory and of threads.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/mpi_calls.h"
#include "parallel/comm/process_operation.h"

namespace troupe::parallel {

// One rank's end of a group as messages see it.
struct MessageGroup {
  const MpiCalls& calls;
  std::string name;
  int rank;
  std::vector<int> members;  // world rank of each
  int context;               // the group's own number; contexts of groups that share two ranks differ
  uint64_t operations = 0;   // collectives made

  // How many contexts fit into the tags of an MPI.
  static int contexts(int tag_limit) { return static_cast<int>((int64_t{tag_limit} + 1) >> 16); }
  int size() const { return static_cast<int>(members.size()); }
  int collective_tag() const { return (context << 16) | 0x8000; }
  int tag(int of_caller) const { return (context << 16) | of_caller; }
};

// Advanced one after the other, in the order they were made.
std::unique_ptr<ProcessOperation> make_message_collective(MessageGroup&, Request&&);
// Advanced beside each other. Receives of one peer and tag: not before the one ahead has ceased to hold_order.
std::unique_ptr<ProcessOperation> make_message_send(const MessageGroup&, Request&&);
std::unique_ptr<ProcessOperation> make_message_receive(const MessageGroup&, Request&&);

// What a rank sends first. A rank that has left says so in place of a header.
struct MessageHeader {
  uint64_t operation = 0;
  Signature signature;
  int64_t elements = 0;  // all_to_all: for the receiver of the header
  uint64_t left = 0;
};

}  // namespace troupe::parallel
