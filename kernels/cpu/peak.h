// What this CPU can do at best, measured here and now: the ceilings that speeds of kernels are told
// against. Each figure is the best of several short runs, so that a neighbour's load harms little.
#pragma once
#include "kernels/tensor/dtype.h"
#include "runtime/base/thread_pool.h"

namespace troupe::kernels::cpu {

// FLOP/s of fused multiply-adds on registers alone, all of the pool's threads together. bf16: vdpbf16ps
// where it may be used (has_bf16_dot), else the figure of f32. Takes ≈ 0.1 s.
double measure_fma_peak(ThreadPool&, DType);

// Bytes/s read from memory by all threads, over a buffer far larger than the caches. Takes ≈ 0.5 s and
// 256 MiB.
double measure_read_bandwidth(ThreadPool&);

}  // namespace troupe::kernels::cpu
