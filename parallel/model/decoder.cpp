#include "parallel/model/decoder.h"

#include <algorithm>

#include "kernels/ops/add.h"
#include "kernels/ops/dropout.h"
#include "kernels/ops/softmax_cross_entropy.h"

namespace troupe::parallel {

namespace {

// Places in a block where dropout is applied; they key its random numbers.
enum class DropoutSite : uint32_t { embedding, attention, feed_forward };

Value drop(Tape& tape, const Value& x, float probability, const Batch& batch, int layer, DropoutSite site) {
  if (!batch.training || probability == 0) return x;
  const kernels::DropoutKey key{batch.seed, batch.step, static_cast<uint32_t>(layer), static_cast<uint32_t>(site)};
  return dropout(tape, x, probability, key, batch.sequence_ids, batch.shard_indices);
}

}  // namespace

DecoderBlock::DecoderBlock(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int layer)
    : layer_(layer),
      dropout_(c.dropout),
      attention_norm_(parameters, name + ".attention_norm", c.norm, c.width, c.biases, c.norm_epsilon),
      feed_forward_norm_(parameters, name + ".feed_forward_norm", c.norm, c.width, c.biases, c.norm_epsilon),
      attention_(parameters, name + ".attention", c, layer),
      feed_forward_(c.has_experts(layer) ? nullptr
                                         : std::make_unique<FeedForward>(parameters, name + ".feed_forward", c)),
      experts_(c.has_experts(layer) ? std::make_unique<MixtureOfExperts>(parameters, name, c, layer) : nullptr) {}

Value DecoderBlock::forward(Tape& tape, const Value& x, const Batch& batch, Recompute recompute) const {
  const auto attend = [this, batch](Tape& t, const Value& h) {
    Tape::Scope scope(t, "attention");
    return attention_(t, attention_norm_(t, h), batch);
  };
  const Value attended = recompute == Recompute::attention ? tape.recompute(x, attend) : attend(tape, x);
  const Value h = x + drop(tape, attended, dropout_, batch, layer_, DropoutSite::attention);
  Tape::Scope scope(tape, "feed_forward");
  const Value normed = feed_forward_norm_(tape, h);
  const Value fed = experts_ ? (*experts_)(tape, normed, batch) : (*feed_forward_)(tape, normed);
  return h + drop(tape, fed, dropout_, batch, layer_, DropoutSite::feed_forward);
}

Decoder::Decoder(DecoderConfig config, ParameterSet& parameters)
    : Decoder(config, parameters, UnitRange::whole(config)) {}

Decoder::Decoder(DecoderConfig config, ParameterSet& parameters, UnitRange units)
    : config_(std::move(config)),
      units_(units),
      parameters_(parameters),
      ropes_(config_.position == PositionKind::rope ? std::make_unique<kernels::RopeTables>(config_.rope) : nullptr) {
  const DecoderConfig& c = config_;
  const auto make_table = [&] {
    embedding_ = std::make_unique<VocabularyEmbedding>(parameters, "embedding", c.vocabulary, c.width,
                                                       c.initial_deviation, c.tied);
  };
  if (units.has(0)) {
    parameters.set_unit(0);
    make_table();
    if (c.position == PositionKind::learned) {
      position_embedding_ = std::make_unique<PositionEmbedding>(parameters, "position_embedding", c.context, c.width,
                                                                c.initial_deviation);
    }
  }
  for (int i = 0; i < c.layers; ++i) {
    if (!units.has(i + 1)) continue;
    parameters.set_unit(i + 1);
    blocks_.emplace_back(parameters, fmt::format("blocks.{}", i), c, i);
  }
  if (units.has(head_unit())) {
    parameters.set_unit(head_unit());
    final_norm_ = std::make_unique<Norm>(parameters, "final_norm", c.norm, c.width, c.biases, c.norm_epsilon);
    if (c.tied && !embedding_) make_table();
    if (!c.tied) {
      head_ = std::make_unique<ColumnLinear>(parameters, "head", c.width, c.vocabulary, false, c.initial_deviation,
                                             split_vocabulary());
    }
  }
  parameters.allocate();
}

Batch Decoder::prepare(Batch batch) const {
  if (ropes_) {
    const int64_t positions = batch.cache ? batch.cache->capacity : std::max(batch.length, batch.tokens.dim(-1));
    batch.rope = ropes_->get(parameters_.device(), positions, parameters_.numerics().compute);
  }
  if (config_.experts.count > 0 && !batch.router) batch.router = std::make_shared<RouterFindings>();
  if (!batch.shard_positions.defined()) batch.shard_positions = batch.positions;
  if (!batch.shard_indices.defined()) batch.shard_indices = batch.shard_positions;
  return batch;
}

Value Decoder::embed(Tape& tape, const Batch& batch) const {
  Value x = (*embedding_)(tape, batch.tokens);
  if (position_embedding_) x = x + (*position_embedding_)(tape, batch.shard_positions);
  return drop(tape, x, config_.dropout, batch, 0, DropoutSite::embedding);
}

Value Decoder::run_block(int unit, Tape& tape, const Value& x, const Batch& batch, Recompute recompute) const {
  const DecoderBlock& block = blocks_[static_cast<size_t>(unit - std::max(units_.first, 1))];
  Tape::Scope scope(tape, fmt::format("blocks.{}", unit - 1));
  if (recompute != Recompute::block) return block.forward(tape, x, batch, recompute);
  return tape.recompute(
      x, [&block, batch](Tape& t, const Value& h) { return block.forward(t, h, batch, Recompute::none); });
}

MixtureOfExperts* Decoder::experts(int unit) const {
  if (!units_.has(unit) || unit == 0 || unit == head_unit()) return nullptr;
  return blocks_[static_cast<size_t>(unit - std::max(units_.first, 1))].experts();
}

Value Decoder::run(int unit, Tape& tape, const Value& x, const Batch& batch, Recompute recompute) const {
  TROUPE_CHECK(units_.has(unit), "unit {} is not among {} to {}", unit, units_.first, units_.last);
  if (unit == 0) return embed(tape, batch);
  if (unit < head_unit()) return run_block(unit, tape, x, batch, recompute);
  return losses_of(tape, (*final_norm_)(tape, x), batch);
}

Value Decoder::forward(Tape& tape, const Batch& given, Recompute recompute) const {
  const Batch batch = prepare(given);
  Value x = embed(tape, batch);
  for (int unit = 1; unit < head_unit(); ++unit) x = run_block(unit, tape, x, batch, recompute);
  return (*final_norm_)(tape, x);
}

Value Decoder::logits(Tape& tape, const Value& hidden) const {
  Tape::Scope scope(tape, "head");
  if (head_) return (*head_)(tape, hidden);
  const LinearParameters table{tape.parameter(embedding_->weight()), {}};
  return column_linears(tape, parameters_.groups()[Group::tensor], hidden, std::span(&table, 1))[0];
}

Value Decoder::losses(Tape& tape, const Batch& given, Recompute recompute) const {
  const Batch batch = prepare(given);
  return losses_of(tape, forward(tape, batch, recompute), batch);
}

Value Decoder::losses_of(Tape& tape, const Value& hidden, const Batch& batch) const {
  const Value z = logits(tape, hidden);
  kernels::SoftmaxCrossEntropyOptions options;
  options.softcap = config_.logit_softcap;
  options.label_smoothing = batch.training ? batch.label_smoothing : 0;
  options.vocabulary = config_.vocabulary;
  Communicator& tensor = parameters_.groups()[Group::tensor];
  options.first = tensor.rank() * z.dim(-1);
  const int64_t rows = batch.tokens.elements();
  const auto gather = [&](const Tensor& part) {
    return gather_tokens(tensor, part.reshape({1, 1, rows})).reshape({tensor.size(), rows});
  };
  return softmax_cross_entropy(tape, z.reshape({rows, z.dim(-1)}), batch.labels.reshape({rows}), options,
                               tensor.size() > 1 ? kernels::GatherParts(gather) : kernels::GatherParts());
}

KvCache Decoder::make_cache(int64_t batch, int64_t capacity) const {
  KvCache cache;
  cache.capacity = capacity;
  const int64_t kv_heads = local_kv_heads(config_, parameters_.mesh());
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
