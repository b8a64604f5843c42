// The decoder: embedding, blocks, final norm, head. One definition for training, evaluation and
// generation, on any mesh.
#pragma once
#include "parallel/model/layers.h"
#include "parallel/model/mixture.h"

namespace troupe::parallel {

class DecoderBlock {
 public:
  DecoderBlock(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);
  Value forward(Tape&, const Value& x, const Batch&, Recompute) const;  // [B, T, D] → [B, T, D], residual dtype
  MixtureOfExperts* experts() const { return experts_.get(); }

 private:
  int layer_;
  float dropout_;
  Norm attention_norm_, feed_forward_norm_;
  Attention attention_;
  std::unique_ptr<FeedForward> feed_forward_;  // one of the two
  std::unique_ptr<MixtureOfExperts> experts_;
};

// A model is a row of units: 0 the embedding, 1 to L the blocks, L + 1 the final norm, the head and the loss. Units
// [first, last] are the part of it that a virtual stage of a pipeline has.
struct UnitRange {
  int first = 0, last = 0;

  static UnitRange whole(const DecoderConfig& config) { return {0, static_cast<int>(config.layers) + 1}; }
  bool has(int unit) const { return first <= unit && unit <= last; }
};

class Decoder {
 public:
  // REQUIRES: config.complete() succeeded. `parameters` outlives the decoder, and holds nothing but other parts of the
  // same model. A tied table belongs to the parts at both ends.
  Decoder(DecoderConfig config, ParameterSet& parameters);
  Decoder(DecoderConfig config, ParameterSet& parameters, UnitRange units);

  const DecoderConfig& config() const { return config_; }
  ParameterSet& parameters() const { return parameters_; }
  const UnitRange& units() const { return units_; }

  // One unit: from the residual stream [B, n, D] before it (undefined: it is the embedding) to that behind it, or to
  // the losses (see losses()). REQUIRES: prepare() has seen the batch; this part has the unit.
  Value run(int unit, Tape&, const Value& x, const Batch&, Recompute = Recompute::none) const;
  // Fills in what follows from the rest: rotary tables, shares of positions.
  Batch prepare(Batch batch) const;

  // Those of a unit of this part; null: it has none.
  MixtureOfExperts* experts(int unit) const;

  // Of a whole model:
  // The last hidden states after the final norm: [B, T, D], compute dtype; [B, T / tensor ranks, D] of a mesh.
  Value forward(Tape&, const Batch&, Recompute = Recompute::none) const;
  // hidden → logits [B, T, V], compute dtype, before the soft-cap; of a mesh, the columns of this tensor rank.
  Value logits(Tape&, const Value& hidden) const;
  // Cross-entropy of each token, [B·T] f32 (f64): 0 where there is no target. Destroys the logits in backward.
  Value losses(Tape&, const Batch&, Recompute = Recompute::none) const;

  KvCache make_cache(int64_t batch, int64_t capacity) const;
  // For generation: packs every matrix for products with few rows.
  void pack();

 private:
  int head_unit() const { return static_cast<int>(config_.layers) + 1; }
  Value embed(Tape&, const Batch&) const;
  Value run_block(int unit, Tape&, const Value& x, const Batch&, Recompute) const;
  Value losses_of(Tape&, const Value& hidden, const Batch&) const;

  DecoderConfig config_;
  UnitRange units_;
  ParameterSet& parameters_;
  std::unique_ptr<kernels::RopeTables> ropes_;  // null: positions are learned
  std::unique_ptr<VocabularyEmbedding> embedding_;
  std::unique_ptr<PositionEmbedding> position_embedding_;
  std::vector<DecoderBlock> blocks_;
  std::unique_ptr<Norm> final_norm_;
  std::unique_ptr<ColumnLinear> head_;  // null: tied
};

}  // namespace troupe::parallel
