#include "parallel/model/layers.h"

#include "kernels/ops/attention.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"

namespace troupe::parallel {
namespace {

constexpr int kOutputRows = 0, kInputColumns = 1;  // dimensions of a weight [out, in]

Parameter* add_bias(ParameterSet& parameters, const std::string& name, int64_t out, Placement placement, bool bias) {
  if (!bias) return nullptr;
  return &parameters.add({name + ".bias", {out}, placement, Initializer::constant(0), false});
}

Value parameter_or_none(Tape& tape, Parameter* parameter) { return parameter ? tape.parameter(*parameter) : Value(); }

// Appends this call's keys or values behind the cached ones of every sequence.
void append(const Tensor& from, Tensor& cache, int64_t at) {
  for (int64_t b = 0; b < from.dim(0); ++b) {
    Tensor rows = cache.slice(b, b + 1).reshape({cache.dim(1), cache.dim(2), cache.dim(3)}).slice(at, at + from.dim(1));
    rows.copy_from(from.slice(b, b + 1));
  }
}

}  // namespace

ColumnLinear::ColumnLinear(ParameterSet& parameters, const std::string& name, int64_t in, int64_t out, bool bias,
                           float deviation)
    : weight_(&parameters.add(
          {name + ".weight", {out, in}, Placement::split(Axis::tensor, kOutputRows), Initializer::normal(deviation)})),
      bias_(add_bias(parameters, name, out, Placement::split(Axis::tensor, 0), bias)) {}

Value ColumnLinear::operator()(Tape& tape, const Value& x) const {
  return linear(tape, x, tape.parameter(*weight_), parameter_or_none(tape, bias_));
}

RowLinear::RowLinear(ParameterSet& parameters, const std::string& name, int64_t in, int64_t out, bool bias,
                     float deviation)
    : weight_(&parameters.add({name + ".weight",
                               {out, in},
                               Placement::split(Axis::tensor, kInputColumns),
                               Initializer::normal(deviation)})),
      bias_(add_bias(parameters, name, out, Placement::replicated(), bias)) {}

Value RowLinear::operator()(Tape& tape, const Value& x) const {
  return linear(tape, x, tape.parameter(*weight_), parameter_or_none(tape, bias_));
}

VocabularyEmbedding::VocabularyEmbedding(ParameterSet& parameters, const std::string& name, int64_t vocabulary,
                                         int64_t width, float deviation, bool tied)
    : weight_(&parameters.add({name + ".weight",
                               {vocabulary, width},
                               Placement::split(Axis::tensor, 0),
                               Initializer::normal(deviation),
                               tied})),
      output_(parameters.numerics().residual) {}

Value VocabularyEmbedding::operator()(Tape& tape, const Tensor& tokens) const {
  return embedding(tape, tokens, tape.parameter(*weight_), output_);
}

Norm::Norm(ParameterSet& parameters, const std::string& name, NormKind kind, int64_t width, bool bias, float epsilon)
    : kind_(kind),
      weight_(&parameters.add({name + ".weight", {width}, Placement::replicated(), Initializer::constant(1), false})),
      bias_(add_bias(parameters, name, width, Placement::replicated(), bias && kind == NormKind::layer)),
      epsilon_(epsilon),
      output_(parameters.numerics().compute) {}

Value Norm::operator()(Tape& tape, const Value& x) const {
  const Value weight = tape.parameter(*weight_);
  if (kind_ == NormKind::rms) return rms_norm(tape, x, weight, epsilon_, output_);
  return layer_norm(tape, x, weight, parameter_or_none(tape, bias_), epsilon_, output_);
}

Attention::Attention(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int layer)
    : heads_(c.heads / parameters.mesh().size(Axis::tensor)),
      kv_heads_(c.kv_heads / parameters.mesh().size(Axis::tensor)),
      head_width_(c.head_width),
      window_(c.window),
      softcap_(c.attention_softcap),
      rotary_(c.position == PositionKind::rope),
      layer_(layer),
      query_(parameters, name + ".query", c.width, c.heads * c.head_width, c.biases || c.attention_biases,
             c.initial_deviation),
      key_(parameters, name + ".key", c.width, c.kv_heads * c.head_width, c.biases || c.attention_biases,
           c.initial_deviation),
      value_(parameters, name + ".value", c.width, c.kv_heads * c.head_width, c.biases || c.attention_biases,
             c.initial_deviation),
      output_(parameters, name + ".output", c.heads * c.head_width, c.width, c.biases, residual_deviation(c)) {
  if (!c.qk_norm) return;
  query_norm_ =
      std::make_unique<Norm>(parameters, name + ".query_norm", NormKind::rms, head_width_, false, c.norm_epsilon);
  key_norm_ = std::make_unique<Norm>(parameters, name + ".key_norm", NormKind::rms, head_width_, false, c.norm_epsilon);
}

Value Attention::operator()(Tape& tape, const Value& x, const Batch& batch) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  Value q = query_(tape, x).reshape({B, T, heads_, head_width_});
  Value k = key_(tape, x).reshape({B, T, kv_heads_, head_width_});
  const Value v = value_(tape, x).reshape({B, T, kv_heads_, head_width_});
  if (query_norm_) {
    q = (*query_norm_)(tape, q);
    k = (*key_norm_)(tape, k);
  }
  if (rotary_) {
    q = rope(tape, q, batch.positions, batch.rope);
    k = rope(tape, k, batch.positions, batch.rope);
  }
  kernels::AttentionOptions options;
  options.causal = true;
  options.window = window_;
  options.softcap = softcap_;
  options.first_visible = batch.first_visible;
  Value mixed;
  if (batch.cache != nullptr) {
    KvCache::Layer& cache = batch.cache->layers[static_cast<size_t>(layer_)];
    append(k.tensor(), cache.keys, batch.cache->length);
    append(v.tensor(), cache.values, batch.cache->length);
    options.query_offset = batch.cache->length;
    options.keys = batch.cache->length + T;
    mixed = attention(tape, q, tape.constant(cache.keys), tape.constant(cache.values), options);
  } else {
    mixed = attention(tape, q, k, v, options);
  }
  return output_(tape, mixed.reshape({B, T, heads_ * head_width_}));
}

FeedForward::FeedForward(ParameterSet& parameters, const std::string& name, const DecoderConfig& c)
    : mlp_(c.mlp),
      gate_(c.mlp == MlpKind::gelu ? nullptr
                                   : std::make_unique<ColumnLinear>(parameters, name + ".gate", c.width, c.hidden,
                                                                    c.biases, c.initial_deviation)),
      up_(parameters, name + ".up", c.width, c.hidden, c.biases, c.initial_deviation),
      down_(parameters, name + ".down", c.hidden, c.width, c.biases, residual_deviation(c)) {}

Value FeedForward::operator()(Tape& tape, const Value& x) const {
  switch (mlp_) {
    case MlpKind::swiglu: return down_(tape, swiglu(tape, (*gate_)(tape, x), up_(tape, x)));
    case MlpKind::geglu: return down_(tape, geglu(tape, (*gate_)(tape, x), up_(tape, x)));
    case MlpKind::gelu: break;
  }
  return down_(tape, gelu_tanh(tape, up_(tape, x)));
}

}  // namespace troupe::parallel
