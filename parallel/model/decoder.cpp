#include "parallel/model/decoder.h"

#include "kernels/ops/add.h"
#include "kernels/ops/dropout.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/softmax_cross_entropy.h"

namespace troupe::parallel {
namespace {

// Places in a block where dropout is applied; they key its random numbers.
enum class DropoutSite : uint32_t { embedding, attention, feed_forward };

Value drop(Tape& tape, const Value& x, float probability, const Batch& batch, int layer, DropoutSite site) {
  if (!batch.training || probability == 0) return x;
  const kernels::DropoutKey key{batch.seed, batch.step, static_cast<uint32_t>(layer), static_cast<uint32_t>(site)};
  return dropout(tape, x, probability, key, batch.sequence_ids, batch.positions);
}

}  // namespace

DecoderBlock::DecoderBlock(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int layer)
    : layer_(layer),
      dropout_(c.dropout),
      attention_norm_(parameters, name + ".attention_norm", c.norm, c.width, c.biases, c.norm_epsilon),
      feed_forward_norm_(parameters, name + ".feed_forward_norm", c.norm, c.width, c.biases, c.norm_epsilon),
      attention_(parameters, name + ".attention", c, layer),
      feed_forward_(parameters, name + ".feed_forward", c) {}

Value DecoderBlock::forward(Tape& tape, const Value& x, const Batch& batch, Recompute recompute) const {
  const auto attend = [this, batch](Tape& t, const Value& h) {
    Tape::Scope scope(t, "attention");
    return attention_(t, attention_norm_(t, h), batch);
  };
  const Value attended = recompute == Recompute::attention ? tape.recompute(x, attend) : attend(tape, x);
  const Value h = x + drop(tape, attended, dropout_, batch, layer_, DropoutSite::attention);
  Tape::Scope scope(tape, "feed_forward");
  return h + drop(tape, feed_forward_(tape, feed_forward_norm_(tape, h)), dropout_, batch, layer_,
                  DropoutSite::feed_forward);
}

Decoder::Decoder(DecoderConfig config, ParameterSet& parameters)
    : config_(std::move(config)),
      parameters_(parameters),
      ropes_(config_.position == PositionKind::rope ? std::make_unique<kernels::RopeTables>(config_.rope) : nullptr),
      embedding_(parameters, "embedding", config_.vocabulary, config_.width, config_.initial_deviation, config_.tied) {
  const DecoderConfig& c = config_;
  if (c.position == PositionKind::learned) {
    position_embedding_ = std::make_unique<VocabularyEmbedding>(parameters, "position_embedding", c.context, c.width,
                                                                c.initial_deviation, false);
  }
  for (int i = 0; i < c.layers; ++i) blocks_.emplace_back(parameters, fmt::format("blocks.{}", i), c, i);
  final_norm_ = std::make_unique<Norm>(parameters, "final_norm", c.norm, c.width, c.biases, c.norm_epsilon);
  if (!c.tied)
    head_ = std::make_unique<ColumnLinear>(parameters, "head", c.width, c.vocabulary, false, c.initial_deviation);
}

Value Decoder::forward(Tape& tape, const Batch& given, Recompute recompute) const {
  Batch batch = given;
  if (ropes_) {
    const int64_t positions = batch.cache ? batch.cache->capacity : batch.tokens.dim(-1);
    batch.rope = ropes_->get(tape.device(), positions, parameters_.numerics().compute);
  }
  Value x = embedding_(tape, batch.tokens);
  if (position_embedding_) x = x + (*position_embedding_)(tape, batch.positions);
  x = drop(tape, x, config_.dropout, batch, 0, DropoutSite::embedding);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Tape::Scope scope(tape, fmt::format("blocks.{}", i));
    const auto block = [this, i, batch, recompute](Tape& t, const Value& h) {
      return blocks_[i].forward(t, h, batch, recompute == Recompute::block ? Recompute::none : recompute);
    };
    x = recompute == Recompute::block ? tape.recompute(x, block) : block(tape, x);
  }
  return (*final_norm_)(tape, x);
}

Value Decoder::logits(Tape& tape, const Value& hidden) const {
  Tape::Scope scope(tape, "head");
  return head_ ? (*head_)(tape, hidden) : linear(tape, hidden, tape.parameter(embedding_.weight()));
}

Value Decoder::losses(Tape& tape, const Batch& batch, Recompute recompute) const {
  const Value z = logits(tape, forward(tape, batch, recompute));
  kernels::SoftmaxCrossEntropyOptions options;
  options.softcap = config_.logit_softcap;
  options.label_smoothing = batch.training ? batch.label_smoothing : 0;
  const int64_t rows = batch.tokens.elements();
  return softmax_cross_entropy(tape, z.reshape({rows, z.dim(-1)}), batch.labels.reshape({rows}), options);
}

KvCache Decoder::make_cache(int64_t batch, int64_t capacity) const {
  KvCache cache;
  cache.capacity = capacity;
  const int64_t kv_heads = config_.kv_heads / parameters_.mesh().size(Axis::tensor);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const Shape shape{batch, capacity, kv_heads, config_.head_width};
    const auto make = [&] {
      return Tensor::empty(parameters_.device(), parameters_.numerics().compute, shape, kernels::MemoryKind::buffers);
    };
    cache.layers.push_back({make(), make()});
  }
  return cache;
}

void Decoder::pack() {
  for (Parameter* parameter : parameters_.all()) {
    if (parameter->spec().multiplied) parameter->pack();
  }
}

}  // namespace troupe::parallel
