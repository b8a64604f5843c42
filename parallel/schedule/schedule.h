// Pipeline schedules: in which order a stage runs its microbatches forward and backward. Pure functions.
//
// The model is cut into stages × virtual stages chunks of neighbouring blocks; chunk c belongs to stage c mod stages,
// and is its virtual stage c ÷ stages. A pass takes one microbatch through one chunk. Every schedule runs the passes
// backward of a chunk in ascending order of microbatches, so that gradients are summed in the same order under all of
// them.
//
//   gpipe        all forward, then all backward: every microbatch is live at once. Huang et al. 2019, GPipe.
//   1f1b         one backward after each forward, as soon as there is one to run: as many are live as there are stages
//                from here on. Narayanan et al. 2019, PipeDream; with a flush at the step's end 2021, section 2.2.1.
//   interleaved  1f1b over several chunks a stage: idle time ÷ virtual stages, for as many times the messages.
//                Narayanan et al. 2021, Efficient Large-Scale Language Model Training on GPU Clusters, section 2.2.2.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/autograd/tape.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

using kernels::GradientPart;

enum class Schedule : uint8_t { gpipe, one_f_one_b, interleaved };
std::string_view name_of(Schedule schedule);  // as in parallel.schedule: "1f1b"

struct Pipeline {
  Schedule schedule = Schedule::one_f_one_b;
  int stages = 1;
  int virtual_stages = 1;
  int microbatches = 1;

  int chunks() const { return stages * virtual_stages; }
  int chunk(int stage, int virtual_stage) const { return virtual_stage * stages + stage; }
  int stage_of(int chunk) const { return chunk % stages; }
  int virtual_stage_of(int chunk) const { return chunk / stages; }
};

// Errors (usage) name the rule that is broken, the keys, and the nearest valid choice: only the interleaved schedule
// has virtual stages, and it takes microbatches in groups of as many as there are stages; a chunk has a block at least.
Status check(const Pipeline& pipeline, int layers);
// The same for forward passes alone, which run in groups of any size.
Status check_forward(const Pipeline& pipeline, int layers);

struct Pass {
  bool forward = true;
  GradientPart part = GradientPart::both;  // of a pass backward
  int microbatch = 0;
  int virtual_stage = 0;

  bool operator==(const Pass&) const = default;
};

// What `stage` runs in a training step, in order. REQUIRES: check() succeeds.
std::vector<Pass> passes(const Pipeline& pipeline, int stage);
// The same without backward: a validation batch. REQUIRES: check_forward() succeeds.
std::vector<Pass> forward_passes(const Pipeline& pipeline, int stage);

// The share of a step that a stage idles where all chunks take the same time and messages none: (p − 1) / (v·m + p −
// 1).
double bubble_fraction(const Pipeline& pipeline);
// The most passes forward that wait for theirs backward at once, each of one microbatch through one chunk: m under
// gpipe, min(m, p − stage) under 1f1b, min(v·m, 2 (p − 1 − stage) + (v − 1) p + 1) interleaved.
int peak_live_passes(const Pipeline& pipeline, int stage);

}  // namespace troupe::parallel
