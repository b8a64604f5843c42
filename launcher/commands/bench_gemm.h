// troupe bench gemm: the speed of matrix products over the shapes of training and decoding, and what share
// of the machine's ceilings that is.
#pragma once
#include <vector>

#include "kernels/ops/matmul_kernels.h"
#include "launcher/commands/command.h"

namespace troupe::launcher {

struct GemmShape {
  kernels::MatmulForm form;
  int64_t M, N, K;
  bool packed = false;  // form nt with the weight packed beforehand
};

struct GemmFigure {
  GemmShape shape;
  kernels::DType type;
  int threads;
  double seconds;  // of one product, the best of several runs
  double flops_per_second;
  double weight_bytes_per_second;  // B read once
  double share_of_peak;            // of flops_per_second in the fused multiply-adds of all threads
};

// Linear layers 768 → {768, 2304, 3072} and 3072 → 768 over `tokens` rows: forward (nt), input gradient
// (nn), weight gradient (tn, accumulating), as GPT-2 124M has them.
std::vector<GemmShape> training_shapes(int64_t tokens);
std::vector<GemmShape> decode_shapes(int64_t rows);

// A and C stay warm; packed weights are copies that together exceed the caches, so that they come from
// memory. C is f32 (f64 for f64). Measures for about `seconds`.
GemmFigure measure_gemm(kernels::Device&, const GemmShape&, kernels::DType, double peak_flops_per_second,
                        double seconds);

void add_bench_gemm_command(CLI::App& bench, Action& action);

}  // namespace troupe::launcher
