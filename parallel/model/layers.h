// The parts of a decoder, written against a mesh: each knows which of its dimensions a mesh axis may
// split. Shapes are those of one rank.
#pragma once
#include "kernels/autograd/tape.h"
#include "parallel/model/batch.h"
#include "parallel/model/decoder_config.h"
#include "parallel/model/parameter.h"

namespace troupe::parallel {

using kernels::Tape;
using kernels::Value;

// [.., in] → [.., out]; the tensor axis splits `out`.
class ColumnLinear {
 public:
  ColumnLinear(ParameterSet&, const std::string& name, int64_t in, int64_t out, bool bias, float deviation);
  Value operator()(Tape&, const Value& x) const;

 private:
  Parameter* weight_;  // [out, in]
  Parameter* bias_;    // [out] or null
};

// [.., in] → [.., out]; the tensor axis splits `in`, so its ranks hold partial sums of the result.
class RowLinear {
 public:
  RowLinear(ParameterSet&, const std::string& name, int64_t in, int64_t out, bool bias, float deviation);
  Value operator()(Tape&, const Value& x) const;

 private:
  Parameter* weight_;  // [out, in]
  Parameter* bias_;    // [out] or null, replicated
};

// Tokens i32 [B, T] → [B, T, width] of the residual dtype; the tensor axis splits the vocabulary.
class VocabularyEmbedding {
 public:
  // `tied`: the table is the head's matrix too.
  VocabularyEmbedding(ParameterSet&, const std::string& name, int64_t vocabulary, int64_t width, float deviation,
                      bool tied);
  Value operator()(Tape&, const Tensor& tokens) const;
  Parameter& weight() const { return *weight_; }

 private:
  Parameter* weight_;  // [V, D]
  DType output_;
};

// RMSNorm or LayerNorm of the last dimension; reads the residual stream, writes the compute dtype.
class Norm {
 public:
  Norm(ParameterSet&, const std::string& name, NormKind kind, int64_t width, bool bias, float epsilon);
  Value operator()(Tape&, const Value& x) const;

 private:
  NormKind kind_;
  Parameter* weight_;  // [width]
  Parameter* bias_;    // [width] or null
  float epsilon_;
  DType output_;
};

// Multi-head, grouped-query or multi-query self-attention: [B, T, D] → [B, T, D]. Heads are split over
// the tensor axis.
class Attention {
 public:
  Attention(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);
  Value operator()(Tape&, const Value& x, const Batch&) const;

 private:
  int64_t heads_, kv_heads_, head_width_, window_;
  float softcap_;
  bool rotary_;
  int layer_;
  ColumnLinear query_, key_, value_;
  RowLinear output_;
  std::unique_ptr<Norm> query_norm_, key_norm_;
};

// [.., D] → [.., D] through F hidden units, gated (SwiGLU, GeGLU) or not (GELU).
class FeedForward {
 public:
  FeedForward(ParameterSet&, const std::string& name, const DecoderConfig&);
  Value operator()(Tape&, const Value& x) const;

 private:
  MlpKind mlp_;
  std::unique_ptr<ColumnLinear> gate_;
  ColumnLinear up_;
  RowLinear down_;
};

}  // namespace troupe::parallel
