// How long a device takes for one piece of work.
#pragma once
#include <cstdint>

#include "parallel/plan/device.h"

namespace troupe::parallel {

// C [m, n] = A [m, k] · B [k, n], `groups` of them at once: tiles in waves, or the bytes of the operands and the result
// (`result_bytes` each element, read and written where it accumulates), whichever takes longer. Seconds; a kernel's
// start is not counted.
struct Product {
  double m = 0, n = 0, k = 0;
  double result_bytes = 2;
  double groups = 1;
};
double product_seconds(const DeviceSpec& device, kernels::DType compute, const Product& product);

// A group of ranks, of which `in_node` share a node with each of them: its links. The ring passes each node once, so
// what enters and leaves a node goes through as many adapters as the group has ranks there.
struct Links {
  int ranks = 1, in_node = 1;
  double ring_bandwidth(const DeviceSpec& device) const;   // bytes/s that each rank sends in a collective
  double pair_bandwidth(const DeviceSpec& device) const;   // from each rank to the next, the slowest of them
  double cross_bandwidth(const DeviceSpec& device) const;  // from each rank to all others, as much to each
  double latency(const DeviceSpec& device) const;          // of one operation
};
// Of ranks that are `stride` apart.
Links links_of(const DeviceSpec& device, int ranks, int stride);

}  // namespace troupe::parallel
