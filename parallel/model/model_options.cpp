#include "parallel/model/model_options.h"

namespace troupe::parallel {

Result<DecoderConfig> read_model_options(Config& config) {
  ConfigSection section = config.section("model");
  std::string preset;
  section.read("preset", preset);
  DecoderConfig c;
  if (!preset.empty()) {
    auto found = decoder_preset(preset);
    if (!found.ok()) return usage_error("{}: {}", config.where("model.preset"), found.error().message());
    c = *found;
    // Sizes that follow from others follow again when one of those is overridden.
    if (section.has("heads") && !section.has("kv_heads")) c.kv_heads = 0;
    if ((section.has("heads") || section.has("width")) && !section.has("head_width")) c.head_width = 0;
    if (section.has("width") && !section.has("hidden")) c.hidden = 0;
  }
  section.read("vocabulary", c.vocabulary, at_least(0))
      .read("context", c.context, at_least(1))
      .read("layers", c.layers, at_least(1))
      .read("width", c.width, at_least(1))
      .read("heads", c.heads, at_least(1))
      .read("kv_heads", c.kv_heads, at_least(0))
      .read("head_width", c.head_width, at_least(0))
      .read("hidden", c.hidden, at_least(0))
      .read_choice("norm", c.norm, {{"rms", NormKind::rms}, {"layer", NormKind::layer}})
      .read_choice("position", c.position, {{"rope", PositionKind::rope}, {"learned", PositionKind::learned}})
      .read_choice("mlp", c.mlp, {{"swiglu", MlpKind::swiglu}, {"geglu", MlpKind::geglu}, {"gelu", MlpKind::gelu}})
      .read("biases", c.biases)
      .read("attention_biases", c.attention_biases)
      .read("tied", c.tied)
      .read("qk_norm", c.qk_norm)
      .read("window", c.window, at_least(0))
      .read("attention_softcap", c.attention_softcap, at_least(0))
      .read("logit_softcap", c.logit_softcap, at_least(0))
      .read("norm_epsilon", c.norm_epsilon, above(0))
      .read("initial_deviation", c.initial_deviation, above(0))
      .read("dropout", c.dropout, at_least(0) & below(1))
      .read("experts", c.experts.count, at_least(0))
      .read("experts_per_token", c.experts.per_token, at_least(1))
      .read("expert_hidden", c.experts.hidden, at_least(0))
      .read("shared_experts", c.experts.shared, at_least(0))
      .read("dense_layers", c.experts.dense_layers, at_least(0))
      .read_choice("router_score", c.experts.score,
                   {{"softmax", RouterScore::softmax}, {"sigmoid", RouterScore::sigmoid}})
      .read("router_normalize", c.experts.normalize)
      .read("router_scale", c.experts.scale, above(0))
      .read("router_balance_loss", c.experts.balance_loss, at_least(0))
      .read("router_z_loss", c.experts.z_loss, at_least(0))
      .read("router_bias_rate", c.experts.bias_rate, at_least(0));
  using kernels::RopeScaling;
  section.section("rope")
      .read("theta", c.rope.theta, above(0))
      .read_choice("scaling", c.rope.scaling,
                   {{"none", RopeScaling::none},
                    {"linear", RopeScaling::linear},
                    {"ntk", RopeScaling::ntk},
                    {"yarn", RopeScaling::yarn},
                    {"llama3", RopeScaling::llama3}})
      .read("factor", c.rope.factor, at_least(1))
      .read("original_context", c.rope.original_context, at_least(0))
      .read("beta_fast", c.rope.beta_fast, above(0))
      .read("beta_slow", c.rope.beta_slow, above(0))
      .read("attention_factor", c.rope.attention_factor, at_least(0))
      .read("low_frequency_factor", c.rope.low_frequency_factor, above(0))
      .read("high_frequency_factor", c.rope.high_frequency_factor, above(0));
  return c;
}

NumericsOptions read_numerics_options(Config& config) {
  DType compute = DType::f32;
  std::string residual = "f32";
  NumericsOptions options;
  config.section("numerics")
      .read_choice("compute", compute, {{"f32", DType::f32}, {"bf16", DType::bf16}, {"f64", DType::f64}})
      .read_choice("residual", residual, {"f32", "compute"})
      .read("reproducible", options.reproducible);
  if (options.reproducible)
    config.reject("numerics.reproducible", "the same loss bits on every layout are not available yet");
  options.numerics = Numerics::of(compute);
  if (residual == "compute") options.numerics.residual = compute;
  return options;
}

}  // namespace troupe::parallel
