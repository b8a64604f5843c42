// How long a step takes, from what each kernel, each collective and the pipeline's schedule take.
//
//   stage      a stage's time for a microbatch is the sum of its blocks' products (plan/kernel_time.h), attention,
//              memory traffic of everything else, starts of kernels, and of the communication that no computation hides
//   pipeline   the slowest stage works m microbatches; the others' times, over the virtual stages, are the bubble:
//              (p − 1)/(m v) where stages are equal (Narayanan et al. 2021, section 2.2)
//   data       gradients are summed while the last microbatch's backward runs, parameters gathered beside the first
//              forward, and what ZeRO 2 and 3 send for every microbatch beside all of them; only what is longer than
//              that is waited for, and the last block's share
//   overlap    communication beside computation takes processors and memory from it: DeviceSpec::overlap_cost
//   stragglers every step waits for the slowest of all devices: DeviceSpec::spread
#pragma once
#include <span>

#include "parallel/plan/traffic.h"

namespace troupe::parallel {

// Seconds of a step, by what they are spent on. All but `stragglers` are of an average stage.
struct StepTime {
  double products = 0, attention = 0, memory = 0, launch = 0;
  double tensor = 0, context = 0, expert = 0;  // communication within a block that nothing hides
  double imbalance = 0;                        // what the slowest stage takes longer than the average one
  double bubble = 0, pipeline = 0;             // waiting for the first and last microbatch; for messages between stages
  double data = 0, optimizer = 0;
  double stragglers = 0;

  double total() const {
    return products + attention + memory + launch + tensor + context + expert + imbalance + bubble + pipeline + data +
           optimizer + stragglers;
  }
};

// REQUIRES: as training_memory().
StepTime step_time(const DecoderConfig& config, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                   const StepShape& shape, Recompute recompute);
// The same, with its stages at hand: stage_layers().
StepTime step_time(const DecoderConfig& config, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                   const StepShape& shape, Recompute recompute, std::span<const StageLayers> stages);

// One microbatch through each chunk, forward and backward, and one message between stages; seconds.
struct PassTimes {
  struct Chunk {
    double forward = 0, backward = 0;
  };
  std::vector<Chunk> chunks;
  double message = 0;
};
PassTimes pass_times(const DecoderConfig& config, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                     const StepShape& shape, Recompute recompute);

// Floating-point operations of matrix products that a step needs on the whole model: forward and backward, attention as
// causal kernels compute it. What is recomputed, or computed on padding, does not count.
double model_flops(const DecoderConfig& config, const StepShape& shape);
// The same with every key counted for every query, as PaLM (Chowdhery et al. 2022, appendix B) and Megatron-LM count
// it.
double model_flops_full_attention(const DecoderConfig& config, const StepShape& shape);
// What recomputing adds to what a step computes.
double recomputed_flops(const DecoderConfig& config, const StepShape& shape, Recompute recompute);

}  // namespace troupe::parallel
