#include "parallel/plan/kernel_time.h"

#include <algorithm>
#include <cmath>

namespace troupe::parallel {

double product_seconds(const DeviceSpec& device, kernels::DType compute, const Product& p) {
  if (p.m <= 0 || p.n <= 0 || p.k <= 0) return 0;
  const double rate = device.peak(compute) * device.product_rate;
  const auto rows = static_cast<double>(device.tile_rows), columns = static_cast<double>(device.tile_columns);
  // Either operand may be the one with the long side of a tile.
  const double tiles = p.groups * std::min(std::ceil(p.m / rows) * std::ceil(p.n / columns),
                                           std::ceil(p.m / columns) * std::ceil(p.n / rows));
  const double waves = std::ceil(tiles / device.processors);
  const double working = waves * 2 * rows * columns * (p.k + device.tile_ramp) * device.processors / rate;
  const auto element = static_cast<double>(kernels::size_of(compute));
  const double moving = p.groups * (element * (p.m * p.k + p.n * p.k) + p.result_bytes * p.m * p.n);
  return std::max(working, moving / device.memory_bandwidth);
}

double Links::ring_bandwidth(const DeviceSpec& device) const {
  if (ranks == in_node) return device.node_bandwidth;
  return std::min(device.node_bandwidth, in_node * device.network_bandwidth);
}

double Links::pair_bandwidth(const DeviceSpec& device) const {
  return ranks == in_node ? device.node_bandwidth : device.network_bandwidth;
}

double Links::cross_bandwidth(const DeviceSpec& device) const {
  if (ranks == in_node) return device.node_bandwidth;
  // What leaves the node is the share of the others that are not in it.
  return std::min(device.node_bandwidth, device.network_bandwidth * (ranks - 1) / (ranks - in_node));
}

double Links::latency(const DeviceSpec& device) const {
  if (ranks == in_node) return device.node_latency;
  // Rings within nodes, a tree over them.
  return device.node_latency + device.network_latency * std::log2(std::max(2.0, static_cast<double>(ranks) / in_node));
}

Links links_of(const DeviceSpec& device, int ranks, int stride) {
  return {ranks, std::clamp(device.node_devices / std::max(stride, 1), 1, ranks)};
}

}  // namespace troupe::parallel
