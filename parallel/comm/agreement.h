// What all ranks must see alike before they go on: why someone has failed.
#pragma once
#include "parallel/comm/communicator.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

// The same Status on all ranks: ok where all are, else the error of one of those with the highest `weight` (the lowest
// rank of them): how much its message tells. Called by all; throws CommunicationError.
Status agree(Communicator& group, kernels::Device& device, const Status& here, int weight = 0);

}  // namespace troupe::parallel
