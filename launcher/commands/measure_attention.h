// Measures attention, forward and backward, on the shapes that are asked for.
#pragma once
#include "kernels/tensor/device.h"
#include "kernels/tensor/dtype.h"

namespace troupe::launcher {

struct AttentionCase {
  int64_t batch = 4, tokens = 1024;  // query rows of each sequence
  int64_t heads = 12, kv_heads = 12, width = 64;
  int64_t cached = 0;  // keys before the first query row: 1 token over a cache is a decode step
  kernels::DType dtype = kernels::DType::f32;
  bool causal = true;
  double seconds = 0.3;  // to spend on each direction, at least; at least three repetitions
};

struct AttentionSpeed {
  // Best repetition, wall clock; and the processor time that it took, all threads of the process together
  // (on a machine that others use too, only this says how fast the code is).
  double forward_seconds = 0, forward_cpu_seconds = 0;
  double backward_seconds = 0, backward_cpu_seconds = 0;
  // FLOPs of the scores that the mask leaves: 4·width each forward, 10·width backward.
  double forward_flop = 0, backward_flop = 0;
  double key_value_bytes = 0;  // read at least once

  double forward_gflops() const { return forward_flop / forward_seconds * 1e-9; }
  double backward_gflops() const { return backward_flop / backward_seconds * 1e-9; }
};

// Runs on all threads of `device`. The backward time is that of the kernel alone. Blocks.
AttentionSpeed measure_attention(kernels::Device& device, const AttentionCase& what);

}  // namespace troupe::launcher
