// A plan: what a training step of a model takes on a layout, in memory, traffic and time, before anybody pays for it.
// And the search for the layout that takes least.
#pragma once
#include <optional>
#include <vector>

#include "parallel/plan/step_time.h"

namespace troupe::parallel {

struct Plan {
  Layout layout;
  StepShape shape;
  Recompute recompute = Recompute::none;
  TrainingMemory memory;  // of the stage that holds most
  int fullest_stage = 0;
  bool fits = false;  // into the device's memory
  StepTime time;
  double mfu = 0;                 // model_flops() over time and peak: what `troupe train` shows
  double mfu_full_attention = 0;  // the same of model_flops_full_attention()

  double step_seconds() const { return time.total(); }
  double tokens_per_second() const {
    return static_cast<double>(shape.global_batch * shape.sequence_length) / step_seconds();
  }
};

// A model, its batch, and what it runs on.
struct PlanTask {
  const DecoderConfig& model;
  Numerics numerics;
  const DeviceSpec& device;
  int64_t global_batch = 1, sequence_length = 1;
};

// REQUIRES: check_layout() succeeds.
Plan make_plan(const PlanTask& task, const Layout& layout, int64_t micro_batch, Recompute recompute);
// The same, with its stages at hand: stage_layers().
Plan make_plan(const PlanTask& task, const Layout& layout, int64_t micro_batch, Recompute recompute,
               std::span<const StageLayers> stages);

// What is fixed; the rest is searched. tensor stays within a node, data is what is left of the ranks.
struct PlanChoices {
  int ranks = 1;
  std::optional<int> pipeline, data, context, tensor, expert;
  int expert_tensor = 1;
  std::optional<int> zero, virtual_stages;
  std::optional<Schedule> schedule;  // open: interleaved where there are virtual stages, else 1f1b
  std::optional<int64_t> micro_batch;
  std::optional<Recompute> recompute;
};

struct PlanSearch {
  int64_t valid = 0;       // layouts that keep the rules
  int64_t fitting = 0;     // of them, those that fit; variants that must be slower than one that fits are not tried
  std::vector<Plan> best;  // the fastest of each mesh that fits, fastest first; at most `keep`
  std::optional<Plan> fastest, smallest;  // of all that are valid, fitting or not
};
PlanSearch search_plans(const PlanTask& task, const PlanChoices& choices, size_t keep);

}  // namespace troupe::parallel
