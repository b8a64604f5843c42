#include "parallel/plan/memory.h"

#include <algorithm>

namespace troupe::parallel {
namespace {

int64_t inputs_of(MlpKind mlp) { return mlp == MlpKind::gelu ? 1 : 2; }  // matrices before the activation

// Bytes of one unit's state on one rank, as its buckets hold them (model/parameter_bucket.h).
struct UnitState {
  int64_t parameters = 0, gradients = 0, optimizer = 0;  // always
  int64_t whole_values = 0;                              // ZeRO 3, while it is used
  int64_t whole_gradients = 0;                           // ZeRO 2 and 3, until they are reduced
  int64_t reduced = 0;                                   // ZeRO 1–3, while they are

  UnitState& operator+=(const UnitState& more) {
    parameters += more.parameters;
    gradients += more.gradients;
    optimizer += more.optimizer;
    whole_values += more.whole_values;
    whole_gradients += more.whole_gradients;
    reduced += more.reduced;
    return *this;
  }
};

UnitState state_of(const HeldUnit& unit, const Layout& layout, Numerics numerics) {
  const int64_t a = kernels::size_of(kernels::accumulator_of(numerics.compute));
  UnitState state;
  for (const HeldParameters& h : unit) {
    const int64_t replicas = size_of(h.group, layout.mesh);
    const int zero = replicas > 1 ? layout.zero : 0;
    const int64_t shards = zero > 0 ? replicas : 1;
    const int64_t piece = divide_up(h.elements, shards), all = piece * shards;
    const int64_t value = h.multiplied ? kernels::size_of(numerics.compute) : a;
    if (zero == 3) state.whole_values += value * all;
    else state.parameters += value * all;
    if (zero == 3 || value != a) state.parameters += a * piece;
    state.gradients += a * (zero < 2 ? all : piece);
    if (zero >= 2) state.whole_gradients += a * all;
    if (zero >= 1) state.reduced += a * piece;
    state.optimizer += 2 * a * piece;
  }
  return state;
}

// Parameters, gradients, moments of a stage, and what is whole of them for a time.
void add_state(TrainingMemory& memory, const DecoderConfig& m, Numerics numerics, const Layout& layout,
               const StageLayers& layers, int64_t microbatches) {
  const HeldModel held = held_model(m, layout.mesh);
  for (const HeldUnits& units : held_units(held, layers)) {
    const UnitState each = state_of(*units.unit, layout, numerics);
    memory.parameters += units.count * each.parameters;
    memory.gradients += units.count * each.gradients;
    memory.optimizer += units.count * each.optimizer;
  }
  const bool alone = layers.first && layers.last;  // one stage: the head uses the embedding's tied table
  const UnitState tied = state_of(held.tied, layout, numerics);
  UnitState embedding = state_of(held.embedding, layout, numerics), head = state_of(held.head, layout, numerics), block;
  embedding += tied;
  if (!alone) head += tied;
  if (layers.dense > 0) block = state_of(held.dense_block, layout, numerics);
  if (layers.sparse > 0) {
    const UnitState sparse = state_of(held.sparse_block, layout, numerics);
    if (sparse.whole_gradients >= block.whole_gradients) block = sparse;
  }
  // The largest two units that run one after the other.
  const auto pair = [&](int64_t UnitState::* kind, int64_t beside_head, bool ends_meet) {
    int64_t most = (layers.total() > 1 ? 2 : 1) * (block.*kind);
    if (layers.first) most = std::max(most, embedding.*kind + block.*kind);
    if (layers.last) most = std::max(most, head.*kind + block.*kind + beside_head);
    if (alone && ends_meet) most = std::max(most, embedding.*kind + head.*kind);
    return most;
  };
  const bool several = microbatches > 1;
  memory.parameters += pair(&UnitState::whole_values, alone && m.tied ? embedding.whole_values : 0,
                            several && layout.schedule == Schedule::gpipe);
  // The gradient of a tied table is there from the head's backward to the embedding's.
  const int64_t table = alone ? tied.whole_gradients : 0;
  memory.gradients += std::max(pair(&UnitState::whole_gradients, table, several && !m.tied),
                               layers.total() > 1 ? 2 * block.whole_gradients + table : 0);
  memory.buffers += std::max({block.reduced, layers.first ? embedding.reduced : 0, layers.last ? head.reduced : 0});
}

// Bytes of one token of a microbatch, on one rank. Tokens are counted before sequence parallelism divides them.
struct PerToken {
  double attention;     // saved by attention and its norm, without the residual stream
  double feed_forward;  // the same of a dense feed-forward
  double experts;       // the same of a mixture
  double residual;      // one copy of the residual stream
  double head, loss, backward;
  double ring;  // context parallel: on the way
};

PerToken per_token(const DecoderConfig& m, Numerics numerics, const MeshSizes& mesh, int64_t sequences) {
  const double t = mesh.tensor, kt = t / mesh.kv_sharing;
  const auto c = static_cast<double>(kernels::size_of(numerics.compute));
  const auto r = static_cast<double>(kernels::size_of(numerics.residual));
  const auto a = static_cast<double>(kernels::size_of(kernels::accumulator_of(numerics.compute)));
  const auto width = static_cast<double>(m.width), heads = static_cast<double>(m.heads);
  const double q = static_cast<double>(m.heads * m.head_width) / t,
               k = static_cast<double>(m.kv_heads * m.head_width) / kt;
  const double hidden = static_cast<double>(m.hidden) / t;
  const double vocabulary = static_cast<double>(divide_up(m.vocabulary, mesh.tensor));
  const double statistics = a * (m.norm == NormKind::layer ? 2 : 1);
  const double kept = 1.0 + static_cast<double>(inputs_of(m.mlp));  // pre-activations and their product
  const double norm = (c * width + statistics) / t;
  PerToken bytes{};
  bytes.residual = r * width / t;
  bytes.attention = norm + c * (2 * q + 2 * k) + a * heads / t;
  if (numerics.compute == kernels::DType::bf16) bytes.attention += q;
  // Per-head norms keep what they read, and one statistic a head.
  if (m.qk_norm) bytes.attention += c * (q + k) + a * (heads / t + static_cast<double>(m.kv_heads) / kt);
  bytes.feed_forward = norm + c * hidden * kept;
  double widest = hidden;
  if (m.experts.count > 0) {
    const ExpertConfig& e = m.experts;
    const double rows = static_cast<double>(e.per_token) / t, expert_hidden = static_cast<double>(e.hidden);
    const double shared = static_cast<double>(e.shared) * expert_hidden / t;
    bytes.experts =
        norm + a * static_cast<double>(e.count) / t + rows * c * (2 * width + kept * expert_hidden) + c * shared * kept;
    widest = std::max(m.expert_layers() < m.layers ? hidden : 0, rows * expert_hidden + shared);
  }
  bytes.head = bytes.residual + norm;
  bytes.loss = c * vocabulary + c * width / t + 3 * a;
  bytes.backward = bytes.residual + c * width / t + c * widest;
  if (mesh.tensor > 1) {
    const double gathered = c * width * (sequences > 1 ? 2 : 1), parts = a * width;
    // When the last product's gradient is gathered; or when the first products' inputs are, and what the block has
    // saved behind them is gone.
    bytes.backward = std::max(bytes.backward + gathered, bytes.residual + gathered + parts - c * widest);
    bytes.loss += gathered + parts;
  }
  if (mesh.context > 1) bytes.ring = 2 * 2 * k * (c + a);
  return bytes;
}

}  // namespace

TrainingMemory training_memory(const DecoderConfig& m, Numerics numerics, const Layout& layout, const StepShape& shape,
                               Recompute recompute, std::span<const StageLayers> stages, int stage) {
  const MeshSizes& mesh = layout.mesh;
  const StageLayers& layers = stages[static_cast<size_t>(stage)];
  const int64_t microbatches = shape.microbatches(mesh);
  TrainingMemory memory;
  add_state(memory, m, numerics, layout, layers, microbatches);

  const PerToken bytes = per_token(m, numerics, mesh, shape.sequences(mesh));
  const auto saved_of = [&](double feed_forward) {
    const double whole = 2 * bytes.residual + bytes.attention + feed_forward;
    if (recompute == Recompute::attention) return whole - bytes.attention;
    return recompute == Recompute::block ? bytes.residual : whole;
  };
  const double fullest =
      layers.sparse > 0 ? std::max(bytes.experts, layers.dense > 0 ? bytes.feed_forward : 0) : bytes.feed_forward;
  double again = 0;
  if (recompute == Recompute::attention) again = std::max(0.0, bytes.attention - fullest);
  if (recompute == Recompute::block) again = 2 * bytes.residual + bytes.attention + fullest;

  const double live = peak_live_passes(layout.pipeline(microbatches), stage);
  const double chunks = layout.virtual_stages;
  const double blocks = static_cast<double>(layers.dense) * saved_of(bytes.feed_forward) +
                        static_cast<double>(layers.sparse) * saved_of(bytes.experts);
  double on_top = again + bytes.backward + bytes.ring;
  if (layers.last) {
    const double logits = layout.schedule == Schedule::gpipe ? static_cast<double>(microbatches) : 1.0;
    on_top = std::max(logits * (bytes.head + bytes.loss), (logits - 1) * (bytes.head + bytes.loss) + on_top);
  }
  if (mesh.pipeline > 1) {
    const double outputs = layers.last ? (chunks - 1) / chunks : 1;  // of live passes: the head has none
    on_top += bytes.residual * (live * outputs + (layers.first ? 0 : 2) + (layers.last ? 0 : 1));
  }
  const auto tokens = static_cast<double>(shape.tokens(mesh));
  memory.activations = static_cast<int64_t>(tokens * (live / chunks * blocks + on_top));
  // Tokens, labels, positions, and positions of this rank's tokens; a number for each sequence.
  const double batch = tokens * (3 + 1.0 / mesh.tensor) * 4 + 8 * static_cast<double>(shape.sequences(mesh));
  memory.buffers += static_cast<int64_t>(live * batch);
  return memory;
}

TrainingMemory training_memory(const DecoderConfig& m, Numerics numerics, const Layout& layout, const StepShape& shape,
                               Recompute recompute, int stage) {
  return training_memory(m, numerics, layout, shape, recompute, stage_layers(m, layout, shape.sequence_length), stage);
}

TrainingMemory training_memory(const DecoderConfig& m, Numerics numerics, int64_t batch, int64_t length,
                               Recompute recompute) {
  return training_memory(m, numerics, Layout(),
                         {.global_batch = batch, .sequence_length = length, .micro_batch = batch}, recompute, 0);
}

}  // namespace troupe::parallel
