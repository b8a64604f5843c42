#include "parallel/model/model_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

using testing::HasSubstr;

Result<DecoderConfig> model_of(std::string_view text) {
  Config config = TROUPE_TRY(Config::parse(text, "test.toml"));
  DecoderConfig model = TROUPE_TRY(read_model_options(config));
  TROUPE_TRY(config.finish());
  TROUPE_TRY(model.complete());
  return model;
}

TEST(ModelOptions, APresetIsWhatItNames) {
  const auto model = model_of("[model]\npreset = \"gpt2-124m\"\n");
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ(model->parameters(), 124'439'808);
}

TEST(ModelOptions, SizesOverrideThePresetAndThoseThatFollowFollowAgain) {
  auto model = model_of("[model]\npreset = \"gpt2-124m\"\nwidth = 96\n");
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ(model->head_width, 8);
  EXPECT_EQ(model->hidden, 384);
  EXPECT_EQ(model->layers, 12);
  model = model_of("[model]\npreset = \"llama-8b\"\nheads = 16\n");
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ(model->head_width, 256);
  EXPECT_EQ(model->kv_heads, 16);
  EXPECT_EQ(model->hidden, 14336);
  model = model_of("[model]\npreset = \"qwen3-0.6b\"\nwidth = 512\nhidden = 700\nhead_width = 64\nkv_heads = 4\n");
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ(model->head_width, 64);
  EXPECT_EQ(model->hidden, 700);
  EXPECT_EQ(model->heads, 16);
  EXPECT_EQ(model->kv_heads, 4);
  EXPECT_TRUE(model->qk_norm);
}

TEST(ModelOptions, ReadsEveryKey) {
  const auto model = model_of(R"([model]
vocabulary = 100
context = 64
layers = 2
width = 32
heads = 4
kv_heads = 2
head_width = 16
hidden = 48
norm = "layer"
position = "rope"
mlp = "geglu"
biases = true
attention_biases = true
tied = true
qk_norm = true
window = 5
attention_softcap = 50
logit_softcap = 30.0
norm_epsilon = 1e-6
initial_deviation = 0.01
dropout = 0.1
[model.rope]
theta = 5e5
scaling = "llama3"
factor = 8
original_context = 32
)");
  ASSERT_TRUE(model.ok()) << model.error().message();
  EXPECT_EQ(model->mlp, MlpKind::geglu);
  EXPECT_EQ(model->norm, NormKind::layer);
  EXPECT_TRUE(model->biases && model->attention_biases && model->tied && model->qk_norm);
  EXPECT_EQ(model->window, 5);
  EXPECT_EQ(model->logit_softcap, 30);
  EXPECT_EQ(model->rope.scaling, kernels::RopeScaling::llama3);
  EXPECT_EQ(model->rope.original_context, 32);
}

TEST(ModelOptions, ErrorsNameFileAndLine) {
  auto model = model_of("[model]\npreset = \"llama-8\"\n");
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().message(), "test.toml:2: unknown model.preset \"llama-8\"; did you mean \"llama-8b\"?");
  model = model_of("[model]\npreset = \"nano\"\nlayer = 3\n");
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(model.error().message(), HasSubstr("test.toml:3"));
  EXPECT_THAT(model.error().message(), HasSubstr("\"model.layers\""));
  model = model_of("[model]\npreset = \"nano\"\nwidth = 0\n");
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(model.error().message(), HasSubstr("test.toml:3"));
}

TEST(ModelOptions, ReproducibleIsRefusedUntilItExists) {
  auto config = Config::parse("[numerics]\nreproducible = true\n", "test.toml");
  ASSERT_TRUE(config.ok());
  (void)read_numerics_options(*config);
  ASSERT_FALSE(config->finish().ok());
  EXPECT_THAT(config->finish().error().message(), HasSubstr("test.toml:2"));
}

TEST(ModelOptions, TheResidualStreamStaysWideUnlessAskedOtherwise) {
  auto config = Config::parse("[numerics]\ncompute = \"bf16\"\n", "test.toml");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(read_numerics_options(*config).numerics.residual, DType::f32);
  config = Config::parse("[numerics]\ncompute = \"bf16\"\nresidual = \"compute\"\n", "test.toml");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(read_numerics_options(*config).numerics.residual, DType::bf16);
}

}  // namespace
}  // namespace troupe::parallel
