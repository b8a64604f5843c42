// What one rank holds of a model's state, counted: the parameters of each unit, bucket by bucket, as the layers make
// them (model/layers.h) and a set sorts them (model/parameter_set.h).
#pragma once
#include <cstdint>
#include <vector>

#include "parallel/mesh/layout.h"
#include "parallel/model/parameter.h"
#include "parallel/schedule/step_plan.h"

namespace troupe::parallel {

inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Elements of parameters that the same ranks hold, in one dtype.
struct HeldParameters {
  Group group = Group::replicas;  // whose ranks hold the same
  bool multiplied = false;        // computed with in the compute dtype; the others in the accumulator's
  int64_t elements = 0;           // on one rank, without padding
};
using HeldUnit = std::vector<HeldParameters>;
int64_t elements_of(const HeldUnit& unit);

// The units of a model on one rank. A tied table is a bucket of its own: the head has none then.
struct HeldModel {
  HeldUnit embedding, dense_block, sparse_block, head, tied;
};
// REQUIRES: config is complete; the layout is valid for it, kv_sharing included.
HeldModel held_model(const DecoderConfig& config, const MeshSizes& mesh);

// Blocks of a stage, or of one of its chunks: dense ones, and those with experts.
struct StageLayers {
  bool first = true, last = true;  // it has the embedding, the head
  int64_t dense = 0, sparse = 0;
  int64_t total() const { return dense + sparse; }
};
// Of every stage, for sequences of `length` tokens (layer_division.h).
std::vector<StageLayers> stage_layers(const DecoderConfig& config, const Layout& layout, int64_t length);
// Of every chunk.
std::vector<StageLayers> chunk_layers(const DecoderConfig& config, const Layout& layout, int64_t length);

// All units of a stage, and how often each is there.
struct HeldUnits {
  const HeldUnit* unit;
  int64_t count;
};
std::vector<HeldUnits> held_units(const HeldModel& model, const StageLayers& layers);
int64_t elements_of(const HeldModel& model, const StageLayers& layers);

// What a step does, unit by unit (step_plan.h): what the schedule's simulator and the picture of a plan are about.
StepPlan step_plan(const DecoderConfig& config, const Layout& layout, const StepShape& shape, Recompute recompute);

}  // namespace troupe::parallel
