// Communicators of ranks that are processes: the ends of an engine's groups, and how groups come to be.
#pragma once
#include <functional>
#include <memory>
#include <span>

#include "parallel/comm/process_engine.h"

namespace troupe::parallel {

// All-gathers a few bytes among the ranks that make a group: out holds one piece of in's size for each.
using GatherBytes = std::function<void(std::span<const std::byte> in, std::span<std::byte> out)>;

// Over the ranks of a process communicator.
void gather_bytes(Communicator&, std::span<const std::byte> in, std::span<std::byte> out);

// Memory for the ranks `members` (world ranks, one host each its own where they differ), of which this is number
// `rank`; one creates it and the others open it. Every rank that `gather` reaches calls this, with no members if it
// gets none. Empty where the system refuses.
SharedSegment share_segment(const ProcessEngine&, const std::vector<int>& members, int rank, size_t bytes, int reached,
                            const GatherBytes& gather);

// The end of rank `rank` of a group: through shared memory if `segment` holds any.
std::unique_ptr<Communicator> make_process_communicator(std::shared_ptr<ProcessEngine>, std::shared_ptr<FamilyLink>,
                                                        SharedSegment segment, std::string name, int rank,
                                                        std::vector<int> members, int context, CommunicatorOptions);

}  // namespace troupe::parallel
