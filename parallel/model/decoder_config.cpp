#include "parallel/model/decoder_config.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "runtime/base/edit_distance.h"
#include "runtime/base/nearest.h"

namespace troupe::parallel {
namespace {

// Vocabulary, layers, width, heads: Radford et al. 2019, table 2.
DecoderConfig gpt2(int64_t layers, int64_t width, int64_t heads) {
  DecoderConfig c;
  c.vocabulary = 50257;
  c.context = 1024;
  c.layers = layers;
  c.width = width;
  c.heads = heads;
  c.norm = NormKind::layer;
  c.position = PositionKind::learned;
  c.mlp = MlpKind::gelu;
  c.biases = true;
  c.tied = true;
  return c;
}

struct LlamaSizes {
  int64_t layers, width, heads, kv_heads, hidden;
};

DecoderConfig llama(int64_t vocabulary, int64_t context, double theta, LlamaSizes s) {
  DecoderConfig c;
  c.vocabulary = vocabulary;
  c.context = context;
  c.layers = s.layers;
  c.width = s.width;
  c.heads = s.heads;
  c.kv_heads = s.kv_heads;
  c.hidden = s.hidden;
  c.rope.theta = theta;
  return c;
}

DecoderConfig llama3_1b() {  // Llama 3.2 1B: tied
  DecoderConfig c = llama(128256, 131072, 5e5, {16, 2048, 32, 8, 8192});
  c.tied = true;
  return c;
}

DecoderConfig qwen3_0_6b() {
  DecoderConfig c = llama(151936, 40960, 1e6, {28, 1024, 16, 8, 3072});
  c.head_width = 128;
  c.qk_norm = true;
  c.tied = true;
  c.norm_epsilon = 1e-6f;
  return c;
}

// Jiang et al. 2024: all blocks have experts, balanced by a loss.
DecoderConfig mixtral(DecoderConfig dense, int64_t experts, int64_t per_token, int64_t hidden) {
  dense.experts.count = experts;
  dense.experts.per_token = per_token;
  dense.experts.hidden = hidden;
  dense.experts.balance_loss = 0.02f;
  return dense;
}

struct FineGrained {
  int64_t experts, per_token, shared, hidden;
};

// Dai et al. 2024: many small experts, some for every token, and a first block without.
DecoderConfig deepseek_moe(DecoderConfig dense, FineGrained s) {
  ExpertConfig& e = dense.experts;
  e.count = s.experts;
  e.per_token = s.per_token;
  e.shared = s.shared;
  e.hidden = s.hidden;
  e.dense_layers = 1;
  return dense;
}

DecoderConfig deepseek_moe_nano() {  // routed as DeepSeek-V3 (2024): sigmoid, and a bias where there was a loss
  DecoderConfig c = deepseek_moe(llama(4096, 1024, 1e4, {3, 256, 4, 4, 768}), {16, 4, 1, 160});
  c.experts.score = RouterScore::sigmoid;
  c.experts.bias_rate = 1e-3f;
  c.experts.balance_loss = 1e-4f;
  return c;
}

DecoderConfig deepseek_moe_16b() {
  DecoderConfig c = deepseek_moe(llama(102400, 4096, 1e4, {28, 2048, 16, 16, 10944}), {64, 6, 2, 1408});
  c.experts.normalize = false;
  c.experts.balance_loss = 1e-3f;
  c.norm_epsilon = 1e-6f;
  c.initial_deviation = 0.006f;
  return c;
}

struct Preset {
  std::string_view name;
  std::function<DecoderConfig()> make;
};

const std::vector<Preset>& presets() {
  static const std::vector<Preset> table{
      {"nano", [] { return llama(4096, 1024, 1e4, {3, 256, 4, 4, 768}); }},
      {"micro", [] { return llama(8192, 1024, 1e4, {6, 384, 6, 6, 1024}); }},
      {"gpt2-124m", [] { return gpt2(12, 768, 12); }},
      {"gpt2-355m", [] { return gpt2(24, 1024, 16); }},
      {"gpt2-774m", [] { return gpt2(36, 1280, 20); }},
      {"gpt2-1558m", [] { return gpt2(48, 1600, 25); }},
      {"llama-125m", [] { return llama(32000, 2048, 1e4, {12, 768, 12, 4, 2048}); }},
      {"llama-1b", llama3_1b},
      {"llama-3b",
       [] {
         auto c = llama(128256, 131072, 5e5, {28, 3072, 24, 8, 8192});
         c.tied = true;
         return c;
       }},
      {"llama-8b", [] { return llama(128256, 8192, 5e5, {32, 4096, 32, 8, 14336}); }},
      {"llama-70b", [] { return llama(128256, 8192, 5e5, {80, 8192, 64, 8, 28672}); }},
      {"llama-405b", [] { return llama(128256, 131072, 5e5, {126, 16384, 128, 8, 53248}); }},
      {"llama2-7b", [] { return llama(32000, 4096, 1e4, {32, 4096, 32, 32, 11008}); }},
      {"qwen3-0.6b", qwen3_0_6b},
      {"mixtral-nano", [] { return mixtral(llama(4096, 1024, 1e4, {3, 256, 4, 4, 768}), 8, 2, 384); }},
      {"mixtral-8x7b", [] { return mixtral(llama(32000, 32768, 1e6, {32, 4096, 32, 8, 14336}), 8, 2, 14336); }},
      {"deepseek-moe-nano", deepseek_moe_nano},
      {"deepseek-moe-16b", deepseek_moe_16b},
  };
  return table;
}

Status complete_experts(DecoderConfig& c) {
  ExpertConfig& e = c.experts;
  if (e.count < 2) return usage_error("model.experts = {}: a mixture has at least 2", e.count);
  if (e.per_token < 1 || e.per_token > e.count) {
    return usage_error("model.experts_per_token = {} of model.experts = {}; nearest valid: {}", e.per_token, e.count,
                       std::clamp<int64_t>(e.per_token, 1, e.count));
  }
  if (e.dense_layers < 0 || e.dense_layers >= c.layers) {
    return usage_error("model.dense_layers = {} of model.layers = {}: no block is left for experts; nearest valid: {}",
                       e.dense_layers, c.layers, std::clamp<int64_t>(e.dense_layers, 0, c.layers - 1));
  }
  if (e.hidden == 0) e.hidden = c.hidden;
  return {};
}

// Parameters of a feed-forward of `hidden` units; none are in its bias where `bias` is 0.
int64_t feed_forward_parameters(const DecoderConfig& c, int64_t hidden, int64_t bias) {
  const int64_t in = c.mlp == MlpKind::gelu ? 1 : 2;
  return (in + 1) * c.width * hidden + bias * (in * hidden + c.width);
}

// Of one block's experts and router, of which a token goes through `routed`. Experts have no biases.
int64_t expert_parameters(const DecoderConfig& c, int64_t routed) {
  const ExpertConfig& e = c.experts;
  return e.count * c.width + (routed + e.shared) * feed_forward_parameters(c, e.hidden, 0);
}

int64_t parameters_of(const DecoderConfig& c, int64_t routed) {
  const int64_t bias = c.biases ? 1 : 0, qkv_bias = c.biases || c.attention_biases ? 1 : 0;
  const int64_t q = c.heads * c.head_width, kv = c.kv_heads * c.head_width;
  const int64_t norm_size = c.width * (c.norm == NormKind::layer ? 1 + bias : 1);
  const int64_t attention = c.width * q + 2 * c.width * kv + q * c.width + qkv_bias * (q + 2 * kv) + bias * c.width +
                            (c.qk_norm ? 2 * c.head_width : 0);
  const int64_t sparse = c.expert_layers();
  return c.parameters_embedding() + (c.tied ? 0 : c.vocabulary * c.width) + norm_size +
         c.layers * (2 * norm_size + attention) + (c.layers - sparse) * feed_forward_parameters(c, c.hidden, bias) +
         sparse * expert_parameters(c, routed);
}

}  // namespace

Status DecoderConfig::complete() {
  if (vocabulary < 1)
    return usage_error("model.vocabulary is {}: it comes from the tokenizer, or must be set", vocabulary);
  for (auto [name, size] : {std::pair{"layers", layers}, {"width", width}, {"heads", heads}, {"context", context}}) {
    if (size < 1) return usage_error("model.{} is {}: it must be at least 1 (or name a model.preset)", name, size);
  }
  if (kv_heads == 0) kv_heads = heads;
  if (kv_heads < 1 || heads % kv_heads != 0) {
    return usage_error("model.kv_heads = {} does not divide model.heads = {}; nearest valid: {}", kv_heads, heads,
                       nearest_divisors(heads, kv_heads));
  }
  if (head_width == 0) {
    if (width % heads != 0) {
      const int64_t below = width / heads * heads, above = below + heads;
      return usage_error("model.heads = {} does not divide model.width = {}; nearest valid width: {}", heads, width,
                         below > 0 ? fmt::format("{} or {}", below, above) : fmt::format("{}", above));
    }
    head_width = width / heads;
  }
  if (position == PositionKind::rope && head_width % 2 != 0) {
    return usage_error("rotary positions turn pairs: the head width {} (model.width / model.heads) must be even",
                       head_width);
  }
  if (hidden == 0) {
    // Gated MLPs have three matrices: 8/3 of the width keeps their size that of two (Shazeer 2020).
    hidden = mlp == MlpKind::gelu ? 4 * width : (8 * width / 3 + 63) / 64 * 64;
  }
  using kernels::RopeScaling;
  if (position == PositionKind::rope && rope.original_context < 1 &&
      (rope.scaling == RopeScaling::yarn || rope.scaling == RopeScaling::llama3)) {
    return usage_error("model.rope.scaling = \"{}\" needs model.rope.original_context: the context trained on before",
                       rope.scaling == RopeScaling::yarn ? "yarn" : "llama3");
  }
  rope.head_width = head_width;
  if (experts.count > 0) TROUPE_TRY(complete_experts(*this));
  if (dropout < 0 || dropout >= 1) return usage_error("model.dropout = {} is not in [0, 1)", dropout);
  return {};
}

int64_t DecoderConfig::parameters_embedding() const {
  return vocabulary * width + (position == PositionKind::learned ? context * width : 0);
}

int64_t DecoderConfig::parameters() const { return parameters_of(*this, experts.count); }

int64_t DecoderConfig::parameters_active() const { return parameters_of(*this, experts.per_token); }

double DecoderConfig::forward_flops_per_token(int64_t length) const {
  const double d = static_cast<double>(head_width), w = static_cast<double>(width), h = static_cast<double>(heads);
  const double attention_matrices = 2 * w * (2 * h * d + 2 * static_cast<double>(kv_heads) * d);
  const double dense = 2 * static_cast<double>(feed_forward_parameters(*this, hidden, 0));
  const double sparse = experts.count > 0 ? 2 * static_cast<double>(expert_parameters(*this, experts.per_token)) : 0;
  double keys = static_cast<double>(length + 1) / 2;
  if (window > 0 && window < length) {
    const double s = static_cast<double>(window), t = static_cast<double>(length);
    keys = (s * (s + 1) / 2 + (t - s) * s) / t;
  }
  const double attention = 4 * h * d * keys;
  return static_cast<double>(layers) * (attention_matrices + attention) +
         static_cast<double>(layers - expert_layers()) * dense + static_cast<double>(expert_layers()) * sparse +
         2 * w * static_cast<double>(vocabulary);
}

float residual_deviation(const DecoderConfig& config) {
  return config.initial_deviation / std::sqrt(2.0f * static_cast<float>(config.layers));
}

Result<DecoderConfig> decoder_preset(std::string_view name) {
  const Preset* nearest = nullptr;
  for (const Preset& preset : presets()) {
    if (preset.name == name) {
      DecoderConfig config = preset.make();
      TROUPE_TRY(config.complete());
      return config;
    }
    if (!nearest || edit_distance(preset.name, name) < edit_distance(nearest->name, name)) nearest = &preset;
  }
  return usage_error("unknown model.preset \"{}\"; did you mean \"{}\"?", name, nearest->name);
}

std::vector<std::string_view> decoder_presets() {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return names;
}

}  // namespace troupe::parallel
