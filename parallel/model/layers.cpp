#include "parallel/model/layers.h"

#include <algorithm>

#include "kernels/ops/attention.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"

namespace troupe::parallel {
namespace {

constexpr int kInputColumns = 1;  // dimension of a weight [out, in]

// Heads of keys and values: neighbours share one where there are more ranks.
Placement split_kv_heads() {
  Placement placement = Placement::split(Axis::tensor, 0);
  placement.shared = true;
  return placement;
}

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

Placement split_vocabulary() {
  Placement placement = Placement::split(Axis::tensor, 0);
  placement.padded = true;
  return placement;
}

int64_t local_kv_heads(const DecoderConfig& c, const Mesh& mesh) {
  return c.kv_heads / (mesh.size(Axis::tensor) / mesh.sizes().kv_sharing);
}

ColumnLinear::ColumnLinear(ParameterSet& parameters, const std::string& name, int64_t in, int64_t out, bool bias,
                           float deviation, Placement split)
    : tensor_(&parameters.groups()[Group::tensor]),
      weight_(&parameters.add({name + ".weight", {out, in}, split, Initializer::normal(deviation)})),
      bias_(add_bias(parameters, name, out, split, bias)) {}

std::vector<Value> ColumnLinear::together(Tape& tape, const Value& x,
                                          std::initializer_list<const ColumnLinear*> layers) {
  std::vector<LinearParameters> parameters;
  for (const ColumnLinear* layer : layers)
    parameters.push_back({tape.parameter(*layer->weight_), parameter_or_none(tape, layer->bias_)});
  return column_linears(tape, *(*layers.begin())->tensor_, x, parameters);
}

RowLinear::RowLinear(ParameterSet& parameters, const std::string& name, int64_t in, int64_t out, bool bias,
                     float deviation)
    : tensor_(&parameters.groups()[Group::tensor]),
      weight_(&parameters.add({name + ".weight",
                               {out, in},
                               Placement::split(Axis::tensor, kInputColumns),
                               Initializer::normal(deviation)})),
      bias_(add_bias(parameters, name, out, Placement::replicated(), bias)) {}

Value RowLinear::operator()(Tape& tape, const Value& x) const {
  return row_linear(tape, *tensor_, x, {tape.parameter(*weight_), parameter_or_none(tape, bias_)});
}

VocabularyEmbedding::VocabularyEmbedding(ParameterSet& parameters, const std::string& name, int64_t vocabulary,
                                         int64_t width, float deviation, bool tied)
    : tensor_(&parameters.groups()[Group::tensor]),
      weight_(parameters.find(name + ".weight")),  // a tied one may be there, of the part at the other end
      output_(parameters.numerics().residual) {
  if (weight_) return;
  weight_ = &parameters.add(
      {name + ".weight", {vocabulary, width}, split_vocabulary(), Initializer::normal(deviation), tied, tied});
}

Value VocabularyEmbedding::operator()(Tape& tape, const Tensor& tokens) const {
  return split_embedding(tape, *tensor_, tokens, tape.parameter(*weight_), weight_->region().begin(0),
                         weight_->spec().shape[0], output_);
}

PositionEmbedding::PositionEmbedding(ParameterSet& parameters, const std::string& name, int64_t context, int64_t width,
                                     float deviation)
    : weight_(&parameters.add(
          {name + ".weight", {context, width}, Placement::replicated(), Initializer::normal(deviation), false})),
      output_(parameters.numerics().residual) {}

Value PositionEmbedding::operator()(Tape& tape, const Tensor& positions) const {
  return embedding(tape, positions, tape.parameter(*weight_), output_);
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
      kv_heads_(local_kv_heads(c, parameters.mesh())),
      head_width_(c.head_width),
      window_(c.window),
      softcap_(c.attention_softcap),
      rotary_(c.position == PositionKind::rope),
      layer_(layer),
      context_(&parameters.groups()[Group::context]),
      query_(parameters, name + ".query", c.width, c.heads * c.head_width, c.biases || c.attention_biases,
             c.initial_deviation),
      key_(parameters, name + ".key", c.width, c.kv_heads * c.head_width, c.biases || c.attention_biases,
           c.initial_deviation, split_kv_heads()),
      value_(parameters, name + ".value", c.width, c.kv_heads * c.head_width, c.biases || c.attention_biases,
             c.initial_deviation, split_kv_heads()),
      output_(parameters, name + ".output", c.heads * c.head_width, c.width, c.biases, residual_deviation(c)) {
  if (!c.qk_norm) return;
  query_norm_ =
      std::make_unique<Norm>(parameters, name + ".query_norm", NormKind::rms, head_width_, false, c.norm_epsilon);
  key_norm_ = std::make_unique<Norm>(parameters, name + ".key_norm", NormKind::rms, head_width_, false, c.norm_epsilon);
}

Value Attention::operator()(Tape& tape, const Value& x, const Batch& batch) const {
  const std::vector<Value> projected = ColumnLinear::together(tape, x, {&query_, &key_, &value_});
  const int64_t B = projected[0].dim(0), T = projected[0].dim(1);
  Value q = projected[0].reshape({B, T, heads_, head_width_});
  Value k = projected[1].reshape({B, T, kv_heads_, head_width_});
  const Value v = projected[2].reshape({B, T, kv_heads_, head_width_});
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
    mixed = context_attention(tape, *context_, batch.context_exchange.value_or(context_exchange_for(options)), q, k, v,
                              options);
  }
  return output_(tape, mixed.reshape({B, T, heads_ * head_width_}));
}

FeedForward::FeedForward(ParameterSet& parameters, const std::string& name, const DecoderConfig& c)
    : FeedForward(parameters, name, c, c.hidden, c.biases) {}

FeedForward::FeedForward(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int64_t hidden,
                         bool biases)
    : mlp_(c.mlp),
      gate_(c.mlp == MlpKind::gelu ? nullptr
                                   : std::make_unique<ColumnLinear>(parameters, name + ".gate", c.width, hidden, biases,
                                                                    c.initial_deviation)),
      up_(parameters, name + ".up", c.width, hidden, biases, c.initial_deviation),
      down_(parameters, name + ".down", hidden, c.width, biases, residual_deviation(c)) {}

Value FeedForward::operator()(Tape& tape, const Value& x) const {
  if (mlp_ == MlpKind::gelu) return down_(tape, gelu_tanh(tape, up_(tape, x)));
  const std::vector<Value> h = ColumnLinear::together(tape, x, {gate_.get(), &up_});
  return down_(tape, mlp_ == MlpKind::swiglu ? swiglu(tape, h[0], h[1]) : geglu(tape, h[0], h[1]));
}

}  // namespace troupe::parallel
