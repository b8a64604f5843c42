#include "parallel/plan/device.h"

#include <array>

namespace troupe::parallel {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kGibi = 1024.0 * 1024 * 1024, kMicro = 1e-6;

// NVIDIA H100 SXM5, eight to a node. From the maker's data sheets: peaks, memory, NVLink's 450 GB/s each way, one 400
// Gb/s adapter a device (DGX H100). The rest is what programs get of it; within the ranges that measurements give, one
// value for all models was chosen so that the published runs in plan_test.cpp come out (they pin product_rate and
// tile_ramp best, and the others to about a fifth):
//   memory_bytes       80 GB less what a context and communication libraries take
//   memory_bandwidth   copies reach 3.0–3.1 TB/s (0.91); norms, activations and sums, which reduce and convert, less
//   tiles              128 × 256 results of a product on each of 132 processors, Hopper's best
//   product_rate       0.80 of the peak is the most that any product reaches (794 TFLOP/s: Bekman, "ML engineering");
//                      training draws on the power limit for hours, on values that are not zeros
//   tile_ramp          its other half: products of a short inner dimension are slower
//   attention          causal at 4K and width 128: between FlashAttention-2 (370 TFLOP/s forward) and 3 (590 to 640);
//                      backward 0.8 of it (Shah et al. 2024, fig. 5 and 6)
//   kernel_seconds     4 µs from kernel to kernel in a stream
//   logit_bytes        cross-entropy in f32 and unfused passes over bf16 logits: Megatron-LM's
//   step_seconds       batch, clipping, logging: 10 ms of what a published step includes
//   node_bandwidth     nccl-tests on eight: 340–370 GB/s of all-gather and reduce-scatter
//   network_bandwidth  0.86 of 50 GB/s: nccl-tests between nodes, beside other traffic
//   exposed            a fifth: collectives are cut up and run beside the products that they belong to
//   spread             1% from device to device; 8% were found over whole clusters, outliers included (Sinha et al.
//   2022,
//                      "Not all GPUs are created equal"), 1–2% over a day (Dubey et al. 2024, section 3.3.4). The
//                      slowest of n is about √(2 ln n) deviations out.
constexpr DeviceSpec kH100{.name = "h100",
                           .description = "NVIDIA H100 SXM, 8 to a node, NVLink 4, 400 Gb/s each",
                           .peak_bf16 = 989.4 * kTera,
                           .peak_f32 = 67 * kTera,
                           .memory_bytes = 76 * kGibi,
                           .memory_bandwidth = 2.6 * kTera,
                           .processors = 132,
                           .tile_rows = 128,
                           .tile_columns = 256,
                           .tile_ramp = 448,
                           .product_rate = 0.63,
                           .attention_forward = 0.41,
                           .attention_backward = 0.33,
                           .kernel_seconds = 4 * kMicro,
                           .logit_bytes = 56,
                           .step_seconds = 0.01,
                           .node_devices = 8,
                           .node_bandwidth = 350 * kGiga,
                           .node_latency = 15 * kMicro,
                           .network_bandwidth = 43 * kGiga,
                           .network_latency = 30 * kMicro,
                           .overlap_cost = 0.06,
                           .exposed = 0.2,
                           .spread = 0.01};

constexpr DeviceSpec h200() {
  DeviceSpec device = kH100;
  device.name = "h200";
  device.description = "NVIDIA H200 SXM, 8 to a node, NVLink 4, 400 Gb/s each";
  device.memory_bytes = 135 * kGibi;  // 141 GB
  device.memory_bandwidth *= 4.8 / 3.35;
  return device;
}

// One core of the machine of docs/performance.md; ranks are neighbours in one memory.
constexpr DeviceSpec kCpu{.name = "cpu",
                          .description = "one core of an AVX-512 server, ranks in one machine",
                          .peak_bf16 = 0.236 * kTera,
                          .peak_f32 = 0.118 * kTera,
                          .memory_bytes = 8 * kGibi,
                          .memory_bandwidth = 20 * kGiga,
                          .tile_rows = 8,
                          .tile_columns = 48,
                          .product_rate = 0.94,
                          .attention_forward = 0.5,
                          .attention_backward = 0.5,
                          .kernel_seconds = 2 * kMicro,
                          .logit_bytes = 12,
                          .node_devices = 1 << 20,
                          .node_bandwidth = 4 * kGiga,
                          .node_latency = 20 * kMicro,
                          .network_bandwidth = 4 * kGiga,
                          .network_latency = 20 * kMicro,
                          .overlap_cost = 1};

constexpr std::array kDevices{kH100, h200(), kCpu};

}  // namespace

std::span<const DeviceSpec> devices() { return kDevices; }

Result<DeviceSpec> device_named(std::string_view name) {
  std::string names;
  for (const DeviceSpec& device : kDevices) {
    if (device.name == name) return device;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", device.name);
  }
  return usage_error("unknown device \"{}\"; there are: {}", name, names);
}

}  // namespace troupe::parallel
