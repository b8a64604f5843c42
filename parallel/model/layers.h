// The parts of a decoder, written against a mesh: each knows which of its dimensions a mesh axis may split. Shapes are
// those of one rank: T is what the tensor axis has together, n = T / tensor ranks what one of them has between layers
// (tensor_parallel.h).
#pragma once
#include "kernels/autograd/tape.h"
#include "parallel/model/batch.h"
#include "parallel/model/decoder_config.h"
#include "parallel/model/parameter_set.h"
#include "parallel/model/tensor_parallel.h"

namespace troupe::parallel {

// How the vocabulary is divided over the tensor axis: it need not be a multiple of the ranks.
Placement split_vocabulary();
// The heads of keys and values that a rank has.
int64_t local_kv_heads(const DecoderConfig&, const Mesh&);

// [B, n, in] → [B, T, out]; the tensor axis splits `out`.
class ColumnLinear {
 public:
  // `split`: how, where it is not evenly by ranks.
  ColumnLinear(ParameterSet&, const std::string& name, int64_t in, int64_t out, bool bias, float deviation,
               Placement split = Placement::split(Axis::tensor, 0));
  Value operator()(Tape& tape, const Value& x) const { return together(tape, x, {this})[0]; }
  // Several of one input, which is gathered once.
  static std::vector<Value> together(Tape&, const Value& x, std::initializer_list<const ColumnLinear*> layers);

 private:
  Communicator* tensor_;
  Parameter* weight_;  // [out, in]
  Parameter* bias_;    // [out] or null
};

// [B, T, in] → [B, n, out]; the tensor axis splits `in`, and partial sums of its ranks are added.
class RowLinear {
 public:
  RowLinear(ParameterSet&, const std::string& name, int64_t in, int64_t out, bool bias, float deviation);
  Value operator()(Tape&, const Value& x) const;

 private:
  Communicator* tensor_;
  Parameter* weight_;  // [out, in]
  Parameter* bias_;    // [out] or null, replicated
};

// Tokens i32 [B, T] → [B, n, width] of the residual dtype; the tensor axis splits the vocabulary.
class VocabularyEmbedding {
 public:
  // `tied`: the table is the head's matrix too.
  VocabularyEmbedding(ParameterSet&, const std::string& name, int64_t vocabulary, int64_t width, float deviation,
                      bool tied);
  Value operator()(Tape&, const Tensor& tokens) const;
  Parameter& weight() const { return *weight_; }

 private:
  Communicator* tensor_;
  Parameter* weight_;  // [V, D]
  DType output_;
};

// Positions i32 [B, n] → [B, n, width] of the residual dtype.
class PositionEmbedding {
 public:
  PositionEmbedding(ParameterSet&, const std::string& name, int64_t context, int64_t width, float deviation);
  Value operator()(Tape&, const Tensor& positions) const;

 private:
  Parameter* weight_;  // [context, D], replicated
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

// Multi-head, grouped-query or multi-query self-attention: [B, n, D] → [B, n, D]. Heads are split over the tensor axis;
// where that has more ranks than there are heads of keys, neighbours share one.
class Attention {
 public:
  Attention(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);
  Value operator()(Tape&, const Value& x, const Batch&) const;

 private:
  int64_t heads_, kv_heads_, head_width_, window_;
  float softcap_;
  bool rotary_;
  int layer_;
  Communicator* context_;
  ColumnLinear query_, key_, value_;
  RowLinear output_;
  std::unique_ptr<Norm> query_norm_, key_norm_;
};

// [B, n, D] → [B, n, D] through F hidden units, gated (SwiGLU, GeGLU) or not (GELU).
class FeedForward {
 public:
  FeedForward(ParameterSet&, const std::string& name, const DecoderConfig&);
  FeedForward(ParameterSet&, const std::string& name, const DecoderConfig&, int64_t hidden, bool biases);
  Value operator()(Tape&, const Value& x) const;

 private:
  MlpKind mlp_;
  std::unique_ptr<ColumnLinear> gate_;
  ColumnLinear up_;
  RowLinear down_;
};

}  // namespace troupe::parallel
