#include "parallel/model/decoder_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "runtime/base/edit_distance.h"

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
  };
  return table;
}

// The divisors of `n` next to `size` on either side of it.
std::vector<int64_t> nearest_divisors(int64_t n, int64_t size) {
  std::vector<int64_t> result;
  int64_t below = std::min(size, n), above = std::max<int64_t>(size, 1);
  while (below > 0 && n % below != 0) --below;
  while (above < n && n % above != 0) ++above;
  if (below > 0) result.push_back(below);
  if (above <= n && above != below) result.push_back(above);
  return result;
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
                       fmt::join(nearest_divisors(heads, kv_heads), " or "));
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
  if (dropout < 0 || dropout >= 1) return usage_error("model.dropout = {} is not in [0, 1)", dropout);
  return {};
}

int64_t DecoderConfig::parameters_embedding() const {
  return vocabulary * width + (position == PositionKind::learned ? context * width : 0);
}

int64_t DecoderConfig::parameters() const {
  const int64_t bias = biases ? 1 : 0, qkv_bias = biases || attention_biases ? 1 : 0;
  const int64_t q = heads * head_width, kv = kv_heads * head_width;
  const int64_t norm_size = width * (norm == NormKind::layer ? 1 + bias : 1);
  const int64_t attention =
      width * q + 2 * width * kv + q * width + qkv_bias * (q + 2 * kv) + bias * width + (qk_norm ? 2 * head_width : 0);
  const int64_t mlp_size =
      (mlp == MlpKind::gelu ? 2 : 3) * width * hidden + bias * ((mlp == MlpKind::gelu ? 1 : 2) * hidden + width);
  return parameters_embedding() + (tied ? 0 : vocabulary * width) + norm_size +
         layers * (2 * norm_size + attention + mlp_size);
}

double DecoderConfig::forward_flops_per_token(int64_t length) const {
  const double d = static_cast<double>(head_width), w = static_cast<double>(width), h = static_cast<double>(heads);
  const double matrices = 2 * w * (2 * h * d + 2 * static_cast<double>(kv_heads) * d) +
                          2 * (mlp == MlpKind::gelu ? 2.0 : 3.0) * w * static_cast<double>(hidden);
  double keys = static_cast<double>(length + 1) / 2;
  if (window > 0 && window < length) {
    const double s = static_cast<double>(window), t = static_cast<double>(length);
    keys = (s * (s + 1) / 2 + (t - s) * s) / t;
  }
  const double attention = 4 * h * d * keys;
  return static_cast<double>(layers) * (matrices + attention) + 2 * w * static_cast<double>(vocabulary);
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
