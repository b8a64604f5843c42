#include "parallel/model/decoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/model/decoder.h"

namespace troupe::parallel {
namespace {

using testing::HasSubstr;

DecoderConfig preset(std::string_view name) {
  auto config = decoder_preset(name);
  TROUPE_CHECK(config.ok());
  return *config;
}

DecoderConfig small() {
  DecoderConfig c;
  c.vocabulary = 37;
  c.context = 11;
  c.layers = 2;
  c.width = 24;
  c.heads = 4;
  return c;
}

std::string message_of(DecoderConfig config) {
  const Status status = config.complete();
  EXPECT_FALSE(status.ok());
  return status.ok() ? "" : status.error().message();
}

TEST(DecoderConfig, PresetsHaveThePublishedParameterCounts) {
  EXPECT_EQ(preset("gpt2-124m").parameters(), 124'439'808);
  EXPECT_EQ(preset("gpt2-355m").parameters(), 354'823'168);
  EXPECT_EQ(preset("gpt2-774m").parameters(), 774'030'080);
  EXPECT_EQ(preset("gpt2-1558m").parameters(), 1'557'611'200);
  EXPECT_EQ(preset("llama2-7b").parameters(), 6'738'415'616);
  EXPECT_EQ(preset("llama-8b").parameters(), 8'030'261'248);
  EXPECT_EQ(preset("llama-70b").parameters(), 70'553'706'496);
  EXPECT_EQ(preset("llama-405b").parameters(), 405'853'388'800);
  EXPECT_EQ(preset("llama-1b").parameters(), 1'235'814'400);
  EXPECT_EQ(preset("llama-3b").parameters(), 3'212'749'824);
  EXPECT_EQ(preset("qwen3-0.6b").parameters(), 596'049'920);
  EXPECT_EQ(preset("mixtral-8x7b").parameters(), 46'702'792'704);
  EXPECT_EQ(preset("mixtral-8x7b").parameters_active(), 12'879'925'248);
  EXPECT_EQ(preset("deepseek-moe-16b").parameters(), 16'375'728'128);
}

TEST(DecoderConfig, EveryPresetIsComplete) {
  for (std::string_view name : decoder_presets()) {
    DecoderConfig config = preset(name);
    const int64_t parameters = config.parameters();
    EXPECT_TRUE(config.complete().ok()) << name;
    EXPECT_EQ(config.parameters(), parameters) << name;
  }
}

TEST(DecoderConfig, CountsWhatABuiltDecoderHas) {
  const auto device = kernels::make_cpu_device(1);
  int built = 0;
  for (auto norm : {NormKind::rms, NormKind::layer}) {
    for (auto position : {PositionKind::rope, PositionKind::learned}) {
      for (auto mlp : {MlpKind::swiglu, MlpKind::geglu, MlpKind::gelu}) {
        for (int64_t kv_heads : {1, 2, 4}) {
          for (unsigned bits = 0; bits < 32; ++bits) {
            DecoderConfig c = small();
            c.norm = norm;
            c.position = position;
            c.mlp = mlp;
            c.kv_heads = kv_heads;
            c.biases = (bits & 1) != 0;
            c.attention_biases = (bits & 2) != 0;
            c.tied = (bits & 4) != 0;
            c.qk_norm = (bits & 8) != 0;
            c.head_width = (bits & 16) != 0 ? 10 : 0;  // wider than width / heads
            ASSERT_TRUE(c.complete().ok());
            ParameterSet parameters(*device, Numerics::of(kernels::DType::f32), false);
            const Decoder decoder(c, parameters);
            ASSERT_EQ(parameters.global_elements(), c.parameters()) << "biases to head width as bits: " << bits;
            ++built;
          }
        }
      }
    }
  }
  EXPECT_EQ(built, 2 * 2 * 3 * 3 * 32);
}

TEST(DecoderConfig, CountsWhatADecoderWithExpertsHas) {
  const auto device = kernels::make_cpu_device(1);
  for (auto mlp : {MlpKind::swiglu, MlpKind::gelu}) {
    for (int64_t shared : {0, 2}) {
      for (int64_t dense_layers : {0, 1}) {
        for (float bias_rate : {0.0f, 0.1f}) {  // the bias is no parameter: nothing is learned in it
          DecoderConfig c = small();
          c.mlp = mlp;
          c.biases = true;
          c.experts = {.count = 5, .per_token = 2, .hidden = 7, .shared = shared, .dense_layers = dense_layers};
          c.experts.bias_rate = bias_rate;
          ASSERT_TRUE(c.complete().ok());
          ParameterSet parameters(*device, Numerics::of(kernels::DType::f32), false);
          const Decoder decoder(c, parameters);
          EXPECT_EQ(parameters.global_elements(), c.parameters());
          EXPECT_EQ(parameters.find("blocks.1.router.bias") != nullptr, bias_rate > 0);
          EXPECT_EQ(parameters.find("blocks.0.experts.up.weight") != nullptr, dense_layers == 0);
        }
      }
    }
  }
}

TEST(DecoderConfig, FillsInWhatFollows) {
  DecoderConfig c = small();
  ASSERT_TRUE(c.complete().ok());
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_width, 6);
  EXPECT_EQ(c.hidden, 64);  // 8/3 · 24 = 64
  EXPECT_EQ(c.rope.head_width, 6);
  c = small();
  c.mlp = MlpKind::gelu;
  ASSERT_TRUE(c.complete().ok());
  EXPECT_EQ(c.hidden, 96);
}

TEST(DecoderConfig, NamesWhatDoesNotFitAndTheNearestThatWould) {
  DecoderConfig c = small();
  c.width = 26;
  EXPECT_THAT(message_of(c),
              HasSubstr("model.heads = 4 does not divide model.width = 26; nearest valid width: 24 or 28"));
  c.width = 3;
  EXPECT_THAT(message_of(c), testing::EndsWith("nearest valid width: 4"));
  c = small();
  c.heads = 12;
  c.kv_heads = 5;
  EXPECT_THAT(message_of(c), testing::EndsWith("nearest valid: 4 or 6"));
  c.kv_heads = 24;
  EXPECT_THAT(message_of(c), testing::EndsWith("nearest valid: 12"));
  c = small();
  c.width = 20;  // heads of 5
  EXPECT_THAT(message_of(c), HasSubstr("head width 5"));
  c.position = PositionKind::learned;
  EXPECT_TRUE(c.complete().ok());
  c = small();
  c.vocabulary = 0;
  EXPECT_THAT(message_of(c), HasSubstr("model.vocabulary"));
  c = small();
  c.layers = 0;
  EXPECT_THAT(message_of(c), HasSubstr("model.layers is 0"));
  c = small();
  c.dropout = 1;
  EXPECT_THAT(message_of(c), HasSubstr("model.dropout"));
  for (auto scaling : {kernels::RopeScaling::yarn, kernels::RopeScaling::llama3}) {
    c = small();
    c.rope.scaling = scaling;
    EXPECT_THAT(message_of(c), HasSubstr("model.rope.original_context"));
    c.rope.original_context = 8;
    EXPECT_TRUE(c.complete().ok());
  }
}

TEST(DecoderConfig, AnUnknownPresetNamesTheNearest) {
  const auto unknown = decoder_preset("gpt2-124");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().kind(), ErrorKind::usage);
  EXPECT_THAT(unknown.error().message(), HasSubstr("did you mean \"gpt2-124m\"?"));
  EXPECT_FALSE(decoder_preset("").ok());
}

// PaLM's formula with all T keys is 6N + 12·L·H·d·T; a causal kernel computes (T + 1) / 2 keys a query.
TEST(DecoderConfig, TrainingFlopsArePaLMsFormulaWithCausalScores) {
  for (std::string_view name : {"gpt2-124m", "llama-8b", "qwen3-0.6b", "llama2-7b"}) {
    const DecoderConfig c = preset(name);
    double multiplied = static_cast<double>(c.vocabulary * c.width);  // the head
    multiplied += static_cast<double>(c.layers * (c.width * c.head_width * (2 * c.heads + 2 * c.kv_heads) +
                                                  (c.mlp == MlpKind::gelu ? 2 : 3) * c.width * c.hidden));
    for (int64_t T : {1, 512, 1024}) {
      const double scores = static_cast<double>(c.layers * c.heads * c.head_width);
      const double causal = 6 * multiplied + 6 * scores * static_cast<double>(T + 1);
      EXPECT_DOUBLE_EQ(c.training_flops_per_token(T), causal) << name;
      const double palm = 6 * multiplied + 12 * scores * static_cast<double>(T);
      EXPECT_DOUBLE_EQ(palm - c.training_flops_per_token(T), 6 * scores * static_cast<double>(T - 1)) << name;
    }
  }
}

TEST(DecoderConfig, AWindowCountsTheScoresThatItLeaves) {
  DecoderConfig c = small();
  ASSERT_TRUE(c.complete().ok());
  for (int64_t window : {1, 3, 8, 11, 20}) {
    DecoderConfig windowed = c;
    windowed.window = window;
    int64_t scores = 0;
    for (int64_t t = 0; t < 11; ++t) scores += std::min(t + 1, window);
    const double mean = static_cast<double>(scores) / 11;
    EXPECT_NEAR(c.forward_flops_per_token(11) - windowed.forward_flops_per_token(11), 2 * 4 * 24 * (6 - mean), 1e-6);
  }
}

// Published totals are 6·N·tokens without attention's scores, which add 2 to 5 percent at these lengths.
TEST(DecoderConfig, TotalsAreThePublishedOnes) {
  const double llama = preset("llama-405b").training_flops_per_token(8192) * 15.6e12;
  EXPECT_NEAR(llama / 3.8e25, 1, 0.05);  // Llama Team 2024, section 3.2
  DecoderConfig gpt3;
  gpt3.vocabulary = 50257;
  gpt3.context = 2048;
  gpt3.layers = 96;
  gpt3.width = 12288;
  gpt3.heads = 96;
  gpt3.norm = NormKind::layer;
  gpt3.position = PositionKind::learned;
  gpt3.mlp = MlpKind::gelu;
  gpt3.biases = gpt3.tied = true;
  ASSERT_TRUE(gpt3.complete().ok());
  EXPECT_NEAR(static_cast<double>(gpt3.parameters()), 175e9, 0.5e9);
  EXPECT_NEAR(gpt3.training_flops_per_token(2048) * 300e9 / 3.14e23, 1, 0.03);  // Brown et al. 2020, table D.1
}

}  // namespace
}  // namespace troupe::parallel
