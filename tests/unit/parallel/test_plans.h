// Plans for tests of schedules.
#pragma once
#include <string>

#include "parallel/schedule/instructions.h"
#include "parallel/schedule/layer_division.h"
#include "runtime/base/random.h"

namespace troupe::parallel {

struct PlanShape {
  MeshSizes mesh;
  Schedule schedule = Schedule::one_f_one_b;
  int virtual_stages = 1, microbatches = 1, layers = 1;
  int zero = 0;
  Recompute recompute = Recompute::none;
  bool tied = false, experts = false;
};

// Buckets as a decoder would have them on that mesh, and the collectives of sequence parallelism and of experts inside.
inline StepPlan plan_of(const PlanShape& shape) {
  StepPlan plan{.mesh = shape.mesh,
                .schedule = shape.schedule,
                .virtual_stages = shape.virtual_stages,
                .microbatches = shape.microbatches,
                .zero = shape.zero,
                .recompute = shape.recompute,
                .activation_elements = 96,
                .blocks = divide_layers(shape.layers, shape.mesh.pipeline, shape.virtual_stages, {.head = 0.5}),
                .units = std::vector<Unit>(static_cast<size_t>(shape.layers) + 2)};
  const auto whole_shards = [&](Group group, int64_t each) { return Bucket{group, each * size_of(group, shape.mesh)}; };
  for (size_t u = 0; u < plan.units.size(); ++u) {
    Unit& unit = plan.units[u];
    const auto number = static_cast<int64_t>(u);
    unit.buckets = {whole_shards(Group::replicas, 100 + number)};
    if (shape.mesh.tensor > 1) unit.buckets.push_back(whole_shards(Group::stage, 10 + number));
    const InsideCollective gather{OperationKind::all_gather, Group::tensor, 32, true};
    const InsideCollective scatter{OperationKind::reduce_scatter, Group::tensor, 32, true};
    unit.inside_forward = {gather, scatter};
    unit.inside_backward = {gather, scatter};
    const bool block = u > 0 && u + 1 < plan.units.size();
    if (!block || !shape.experts) continue;
    unit.add_expert_exchange();
    unit.balanced_experts = 8;
    unit.buckets.push_back(whole_shards(Group::expert_replicas, 50 + number));
  }
  if (shape.tied) plan.tied = whole_shards(Group::replicas, 400);
  return plan;
}

// A pipeline alone.
inline StepPlan pipeline_plan(Schedule schedule, int stages, int virtual_stages, int microbatches, int layers) {
  return plan_of({.mesh = {.pipeline = stages},
                  .schedule = schedule,
                  .virtual_stages = virtual_stages,
                  .microbatches = microbatches,
                  .layers = layers});
}

inline std::string to_string(const PlanShape& s) {
  return fmt::format("{}, {} × {}, {} microbatches, {} layers, zero {}, recompute {}{}{}", s.mesh.to_string(),
                     name_of(s.schedule), s.virtual_stages, s.microbatches, s.layers, s.zero,
                     static_cast<int>(s.recompute), s.tied ? ", tied" : "", s.experts ? ", experts" : "");
}

// A valid shape for every seed, of at most 16 ranks.
inline PlanShape random_shape(uint64_t seed) {
  RandomStream random{derive_key(7, seed)};
  const auto draw = [&](int most) { return 1 + static_cast<int>(random.below(static_cast<uint64_t>(most))); };
  PlanShape s;
  s.mesh.pipeline = draw(4);
  s.mesh.data = draw(2);
  s.mesh.context = s.mesh.data == 1 ? draw(2) : 1;
  s.mesh.tensor = draw(2);
  s.experts = draw(2) == 1;
  if (s.experts) s.mesh.expert = draw(2) == 1 ? s.mesh.stage_ranks() : 1;
  s.schedule = static_cast<Schedule>(draw(3) - 1);
  s.microbatches = draw(6);
  if (s.schedule == Schedule::interleaved && s.mesh.pipeline > 1) {
    s.virtual_stages = draw(3);
    if (s.virtual_stages > 1) s.microbatches = s.mesh.pipeline * draw(2);
  }
  s.layers = s.mesh.pipeline * s.virtual_stages + draw(5) - 1;
  s.zero = draw(4) - 1;
  s.recompute = static_cast<Recompute>(draw(3) - 1);
  s.tied = draw(2) == 1;
  return s;
}

}  // namespace troupe::parallel
