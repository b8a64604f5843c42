#include "parallel/plan/state.h"

#include <algorithm>

#include "parallel/schedule/layer_division.h"

namespace troupe::parallel {
namespace {

class HeldModelBuilder {
 public:
  HeldModelBuilder(const DecoderConfig& m, const MeshSizes& mesh) : m_(m), mesh_(mesh) {}

  // Linear layers, on this rank: their inputs and outputs. `group`: who has the same part.
  void linear(HeldUnit& to, Group group, int64_t in, int64_t out, bool bias) const {
    add(to, group, true, in * out);
    if (bias) add(to, group, false, out);
  }
  // Its bias is whole on every rank.
  void row_linear(HeldUnit& to, int64_t in, int64_t out, bool bias) const {
    add(to, Group::replicas, true, in * out);
    if (bias) add(to, Group::stage, false, out);
  }
  void norm(HeldUnit& to) const {
    add(to, Group::stage, false, m_.width * (m_.norm == NormKind::layer && m_.biases ? 2 : 1));
  }

  void attention(HeldUnit& to) const {
    const int64_t t = mesh_.tensor, d = m_.head_width, q = m_.heads / t * d;
    const int64_t k = m_.kv_heads / (t / mesh_.kv_sharing) * d;
    const bool bias = m_.biases || m_.attention_biases;
    norm(to);
    linear(to, Group::replicas, m_.width, q, bias);
    for (int i = 0; i < 2; ++i) linear(to, Group::shared_heads, m_.width, k, bias);
    row_linear(to, q, m_.width, m_.biases);
    if (m_.qk_norm) add(to, Group::stage, false, 2 * d);
  }
  void feed_forward(HeldUnit& to, int64_t hidden, bool bias) const {  // hidden units of this rank
    for (int i = 0; i < (m_.mlp == MlpKind::gelu ? 1 : 2); ++i) linear(to, Group::replicas, m_.width, hidden, bias);
    row_linear(to, hidden, m_.width, bias);
  }
  // The router works in f32: it has no narrow copy.
  void experts(HeldUnit& to) const {
    const ExpertConfig& e = m_.experts;
    const int64_t matrices = m_.mlp == MlpKind::gelu ? 2 : 3;
    add(to, Group::stage, false, e.count * m_.width);
    add(to, Group::expert_replicas, true,
        matrices * m_.width * (e.hidden / mesh_.expert_tensor) * (e.count / mesh_.expert));
    if (e.shared > 0) feed_forward(to, e.shared * e.hidden / mesh_.tensor, false);
  }

  HeldModel build() const {
    HeldModel model;
    const int64_t table = divide_up(m_.vocabulary, mesh_.tensor) * m_.width;
    if (m_.tied) add(model.tied, Group::replicas, true, table);
    else add(model.embedding, Group::replicas, false, table);
    if (m_.position == PositionKind::learned) add(model.embedding, Group::stage, false, m_.context * m_.width);
    attention(model.dense_block);
    norm(model.dense_block);
    feed_forward(model.dense_block, m_.hidden / mesh_.tensor, m_.biases);
    if (m_.experts.count > 0) {
      attention(model.sparse_block);
      norm(model.sparse_block);
      experts(model.sparse_block);
    }
    norm(model.head);
    if (!m_.tied) add(model.head, Group::replicas, true, table);
    return model;
  }

 private:
  static void add(HeldUnit& to, Group group, bool multiplied, int64_t elements) {
    for (HeldParameters& held : to) {
      if (held.group != group || held.multiplied != multiplied) continue;
      held.elements += elements;
      return;
    }
    to.push_back({group, multiplied, elements});
  }

  const DecoderConfig& m_;
  const MeshSizes& mesh_;
};

std::vector<int> blocks_of(const DecoderConfig& m, const Layout& layout, int64_t length) {
  return divide_layers(static_cast<int>(m.layers), layout.mesh.pipeline, layout.virtual_stages, edge_work(m, length));
}

}  // namespace

int64_t elements_of(const HeldUnit& unit) {
  int64_t sum = 0;
  for (const HeldParameters& held : unit) sum += held.elements;
  return sum;
}

HeldModel held_model(const DecoderConfig& m, const MeshSizes& mesh) { return HeldModelBuilder(m, mesh).build(); }

std::vector<StageLayers> chunk_layers(const DecoderConfig& m, const Layout& layout, int64_t length) {
  std::vector<StageLayers> chunks;
  const int64_t first_sparse = m.experts.count > 0 ? m.experts.dense_layers : m.layers;
  int64_t begin = 0;
  for (int64_t blocks : blocks_of(m, layout, length)) {
    const int64_t dense = std::clamp(first_sparse - begin, int64_t{0}, blocks);
    chunks.push_back({false, false, dense, blocks - dense});
    begin += blocks;
  }
  chunks.front().first = chunks.back().last = true;
  return chunks;
}

std::vector<StageLayers> stage_layers(const DecoderConfig& m, const Layout& layout, int64_t length) {
  std::vector<StageLayers> stages(static_cast<size_t>(layout.mesh.pipeline), {false, false});
  size_t stage = 0;
  for (const StageLayers& chunk : chunk_layers(m, layout, length)) {
    StageLayers& sum = stages[stage];
    sum = {sum.first || chunk.first, sum.last || chunk.last, sum.dense + chunk.dense, sum.sparse + chunk.sparse};
    stage = (stage + 1) % stages.size();
  }
  return stages;
}

std::vector<HeldUnits> held_units(const HeldModel& model, const StageLayers& layers) {
  std::vector<HeldUnits> units{{&model.dense_block, layers.dense}, {&model.sparse_block, layers.sparse}};
  if (layers.first) units.push_back({&model.embedding, 1});
  if (layers.last) units.push_back({&model.head, 1});
  if (layers.first || layers.last) units.push_back({&model.tied, 1});
  return units;
}

int64_t elements_of(const HeldModel& model, const StageLayers& layers) {
  int64_t sum = 0;
  for (const HeldUnits& units : held_units(model, layers)) sum += units.count * elements_of(*units.unit);
  return sum;
}

StepPlan step_plan(const DecoderConfig& m, const Layout& layout, const StepShape& shape, Recompute recompute) {
  const MeshSizes& mesh = layout.mesh;
  const HeldModel held = held_model(m, mesh);
  StepPlan plan{.mesh = mesh,
                .schedule = layout.schedule,
                .virtual_stages = layout.virtual_stages,
                .microbatches = static_cast<int>(shape.microbatches(mesh)),
                .zero = layout.zero,
                .recompute = recompute,
                .activation_elements = shape.tokens(mesh) / mesh.tensor * m.width,
                .blocks = blocks_of(m, layout, shape.sequence_length),
                .units = std::vector<Unit>(static_cast<size_t>(m.layers) + 2)};
  const auto buckets = [&](const HeldUnit& unit) {
    std::vector<Bucket> all;
    for (const HeldParameters& h : unit) {
      const int64_t shards = layout.zero > 0 ? size_of(h.group, mesh) : 1;
      all.push_back({.group = h.group, .elements = divide_up(h.elements, shards) * shards});
    }
    return all;
  };
  const int64_t first_sparse = m.experts.count > 0 ? m.experts.dense_layers : m.layers;
  for (int64_t unit = 0; unit <= m.layers + 1; ++unit) {
    Unit& u = plan.units[static_cast<size_t>(unit)];
    if (unit == 0) u.buckets = buckets(held.embedding);
    else if (unit > m.layers) u.buckets = buckets(held.head);
    else if (unit <= first_sparse) u.buckets = buckets(held.dense_block);
    else u.buckets = buckets(held.sparse_block);
    if (unit > first_sparse && unit <= m.layers) u.add_expert_exchange();
  }
  if (m.tied) plan.tied = buckets(held.tied).front();
  return plan;
}

}  // namespace troupe::parallel
