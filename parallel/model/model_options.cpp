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
      .read("dropout", c.dropout, at_least(0) & below(1));
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

ParallelOptions read_parallel_options(Config& config) {
  ParallelOptions o;
  int zero = 0, virtual_stages = 1;
  std::string schedule = "1f1b";
  ConfigSection section = config.section("parallel");
  for (const char* axis : {"tensor", "pipeline", "context", "expert"}) {
    int size = 1;
    section.read(axis, size, at_least(1));
    if (size != 1) {
      config.reject(fmt::format("parallel.{}", axis),
                    fmt::format("parallel.{} = {}: ranks can share data only; 1 is valid", axis, size));
    }
  }
  section.read_or_auto("data", o.data, at_least(1))
      .read("collective_deadline_seconds", o.collective_deadline_seconds, between(1, 1'000'000))
      .read("zero", zero, between(0, 3))
      .read_choice("schedule", schedule, {"gpipe", "1f1b", "interleaved"})
      .read("virtual_stages", virtual_stages, at_least(1));
  if (zero != 0)
    config.reject("parallel.zero",
                  fmt::format("parallel.zero = {}: every rank holds the whole state; 0 is valid", zero));
  if (schedule != "1f1b" || virtual_stages != 1) {
    const char* key = schedule != "1f1b" ? "parallel.schedule" : "parallel.virtual_stages";
    config.reject(key, fmt::format("{}: there is no pipeline to schedule; leave it out", key));
  }
  return o;
}

Result<int> resolve_ranks(const ParallelOptions& options, std::optional<int> asked) {
  if (asked && options.data && *options.data != *asked) {
    return usage_error("{} ranks asked for, but parallel.data = {}; leave one of the two out", *asked, *options.data);
  }
  return asked.value_or(options.data.value_or(1));
}

}  // namespace troupe::parallel
