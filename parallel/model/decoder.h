// The decoder: embedding, blocks, final norm, head. One definition for training, evaluation and
// generation, on any mesh.
#pragma once
#include "parallel/model/layers.h"

namespace troupe::parallel {

enum class Recompute : uint8_t { none, attention, block };

class DecoderBlock {
 public:
  DecoderBlock(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);
  Value forward(Tape&, const Value& x, const Batch&, Recompute) const;  // [B, T, D] → [B, T, D], residual dtype

 private:
  int layer_;
  float dropout_;
  Norm attention_norm_, feed_forward_norm_;
  Attention attention_;
  FeedForward feed_forward_;
};

class Decoder {
 public:
  // REQUIRES: config.complete() succeeded. `parameters` is empty and outlives the decoder.
  Decoder(DecoderConfig config, ParameterSet& parameters);

  const DecoderConfig& config() const { return config_; }
  ParameterSet& parameters() const { return parameters_; }

  // The last hidden states after the final norm: [B, T, D], compute dtype.
  Value forward(Tape&, const Batch&, Recompute = Recompute::none) const;
  // hidden [.., D] → logits [.., V], compute dtype, before the soft-cap.
  Value logits(Tape&, const Value& hidden) const;
  // Cross-entropy of each token, [B·T] f32 (f64): 0 where there is no target. Destroys the logits in backward.
  Value losses(Tape&, const Batch&, Recompute = Recompute::none) const;

  KvCache make_cache(int64_t batch, int64_t capacity) const;
  // For generation: packs every matrix for products with few rows.
  void pack();

 private:
  DecoderConfig config_;
  ParameterSet& parameters_;
  std::unique_ptr<kernels::RopeTables> ropes_;  // null: positions are learned
  VocabularyEmbedding embedding_;
  std::unique_ptr<VocabularyEmbedding> position_embedding_;
  std::vector<DecoderBlock> blocks_;
  std::unique_ptr<Norm> final_norm_;
  std::unique_ptr<ColumnLinear> head_;  // null: tied
};

}  // namespace troupe::parallel
