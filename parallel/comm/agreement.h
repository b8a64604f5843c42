// What all ranks must see alike before they go on: whether someone has failed, and why.
#pragma once
#include "parallel/comm/communicator.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

// True on all ranks if it is on one. Throws CommunicationError.
bool any_rank(Communicator& group, kernels::Device& device, bool here);

// The same Status on all ranks: ok where all are, else the error of one of those with the highest `weight` (the lowest
// rank of them): how much its message tells. Called by all; throws CommunicationError.
Status agree(Communicator& group, kernels::Device& device, const Status& here, int weight = 0);

}  // namespace troupe::parallel
