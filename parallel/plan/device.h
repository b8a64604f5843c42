// What the planner knows of a device and of what connects them. One set of constants for every model and layout.
#pragma once
#include <span>
#include <string_view>

#include "kernels/tensor/dtype.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

struct DeviceSpec {
  std::string_view name, description;
  double peak_bf16 = 0, peak_f32 = 0;  // FLOP/s of matrix products, as the maker states them
  double memory_bytes = 0;             // that a program can have
  double memory_bandwidth = 0;         // bytes/s that streaming reaches

  // A product is cut into tiles, of which `processors` are worked on at once, each at the sustained rate. A tile takes
  // the time of `tile_ramp` more elements of K, to fill its pipeline and write its result.
  int processors = 1;
  int64_t tile_rows = 1, tile_columns = 1;
  double tile_ramp = 0;
  double product_rate = 1;                               // of the peak, that large products sustain for hours
  double attention_forward = 1, attention_backward = 1;  // the same of causal attention, long sequences
  double kernel_seconds = 0;                             // from the end of a kernel to the next one's work
  double logit_bytes = 0;   // read and written for the loss, of each logit, beside what its products do
  double step_seconds = 0;  // of each step, whatever its size: batch, clipping, metrics

  int node_devices = 1;                         // that have the fast links among them
  double node_bandwidth = 0, node_latency = 0;  // of a collective in a node: bytes/s sent and received by each, seconds
  double network_bandwidth = 0, network_latency = 0;  // of each device's own adapter
  // Of communication that runs beside computation: the share of its time that computation loses to it.
  double overlap_cost = 0;
  // Of tensor and expert parallel's collectives: the share of their time that no product hides. What stages send each
  // other is waited for.
  double exposed = 1;
  // Relative deviation of the speed of devices of one kind: a step waits for the slowest.
  double spread = 0;

  double peak(kernels::DType compute) const { return compute == kernels::DType::bf16 ? peak_bf16 : peak_f32; }
};

// "h100", "h200", "cpu"; an error (usage) names those there are.
Result<DeviceSpec> device_named(std::string_view name);
std::span<const DeviceSpec> devices();

}  // namespace troupe::parallel
