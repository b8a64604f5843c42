#include "parallel/mesh/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

using testing::HasSubstr;

DecoderConfig model(int64_t layers = 12) {
  DecoderConfig m;
  m.vocabulary = 1000;
  m.layers = layers;
  m.width = 768;
  m.heads = 12;
  m.kv_heads = 4;
  m.hidden = 2048;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

DecoderConfig mixture() {
  DecoderConfig m = model();
  m.experts.count = 8;
  m.experts.hidden = 512;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

Layout layout(MeshSizes mesh) {
  Layout l;
  l.mesh = mesh;
  return l;
}

Layout interleaved(int pipeline, int virtual_stages) {
  Layout l = layout({.pipeline = pipeline});
  l.schedule = Schedule::interleaved;
  l.virtual_stages = virtual_stages;
  return l;
}

constexpr StepShape kShape{.global_batch = 32, .sequence_length = 1024, .micro_batch = 1};

std::string verdict(const DecoderConfig& m, const Layout& l, const StepShape& shape = kShape) {
  const Status status = check_layout(m, l, shape);
  if (status.ok()) return "";
  EXPECT_EQ(status.error().exit_code(), 2);
  return status.error().message();
}

TEST(Layout, OneRankIsValidForEveryModel) {
  EXPECT_EQ(verdict(model(), {}), "");
  EXPECT_EQ(verdict(mixture(), {}), "");
}

TEST(Layout, TensorDividesHeadsAndHiddenUnits) {
  EXPECT_EQ(verdict(model(), layout({.tensor = 2})), "");
  EXPECT_EQ(verdict(model(), layout({.tensor = 8})),
            "parallel.tensor = 8 does not divide model.heads = 12; nearest valid: 4");
  // 3 divides the heads, but the 4 key and value heads do not fall on 3 ranks.
  EXPECT_THAT(verdict(model(), layout({.tensor = 3})), HasSubstr("model.kv_heads = 4; nearest valid: 2 or 4"));
  DecoderConfig m = model();
  m.hidden = 2046;
  EXPECT_THAT(verdict(m, layout({.tensor = 4})), HasSubstr("does not divide model.hidden = 2046; nearest valid: 2"));
}

TEST(Layout, FewerKvHeadsThanRanksAreShared) {
  DecoderConfig m = model();
  m.kv_heads = 2;
  EXPECT_EQ(verdict(m, layout({.tensor = 4})), "");
  EXPECT_EQ(kv_sharing(m, 4), 2);
  EXPECT_EQ(kv_sharing(m, 2), 1);
  EXPECT_EQ(kv_sharing(m, 1), 1);
}

TEST(Layout, AStageHasALayerAtLeast) {
  EXPECT_EQ(verdict(model(), layout({.pipeline = 12})), "");
  EXPECT_THAT(verdict(model(), layout({.pipeline = 13})), HasSubstr("model.layers = 12; nearest valid: 12"));
  EXPECT_THAT(verdict(model(), interleaved(4, 4)), HasSubstr("model.layers = 12; nearest valid: 3"));
}

TEST(Layout, VirtualStagesAreTheInterleavedSchedules) {
  EXPECT_EQ(verdict(model(), interleaved(4, 3)), "");
  EXPECT_EQ(verdict(model(), interleaved(4, 1)), "") << "that is 1f1b";
  EXPECT_THAT(verdict(model(), interleaved(1, 2)), HasSubstr("parallel.pipeline = 1; nearest valid: 1"));
  Layout l = layout({.pipeline = 2});
  l.virtual_stages = 2;
  EXPECT_THAT(verdict(model(), l), HasSubstr("parallel.schedule = \"1f1b\"; nearest valid: 1"));
}

TEST(Layout, InterleavedWantsWholeGroupsOfMicrobatches) {
  EXPECT_THAT(verdict(model(), interleaved(3, 2)),
              HasSubstr("groups of parallel.pipeline = 3; nearest valid: 30 or 33"));
}

TEST(Layout, ExpertsFallOnTheRanksOfAStage) {
  EXPECT_EQ(verdict(mixture(), layout({.data = 8, .expert = 8})), "");
  EXPECT_EQ(verdict(mixture(), layout({.data = 2, .tensor = 4, .expert = 8})), "");
  EXPECT_THAT(verdict(mixture(), layout({.data = 3, .expert = 3})),
              HasSubstr("model.experts = 8; nearest valid: 2 or 4"));
  EXPECT_THAT(verdict(mixture(), layout({.data = 4, .expert = 8})),
              HasSubstr("do not divide the 4 ranks of a stage (data × context × tensor); nearest valid expert: 4"));
  EXPECT_THAT(verdict(mixture(), layout({.data = 3, .expert_tensor = 3})), HasSubstr("model.expert_hidden = 512"));
  EXPECT_THAT(verdict(model(), layout({.data = 2, .expert = 2})), HasSubstr("the model has no experts"));
}

TEST(Layout, TheBatchIsWholeMicrobatchesOfEachRank) {
  EXPECT_THAT(verdict(model(), layout({.data = 5})), HasSubstr("train.global_batch = 32; nearest valid: 4 or 8"));
  EXPECT_THAT(
      verdict(model(), layout({.data = 4}), {32, 1024, 3}),
      HasSubstr(
          "does not divide a rank's 8 sequences (train.global_batch = 32, parallel.data = 4); nearest valid: 2 or 4"));
}

TEST(Layout, WithoutAMicrobatchARankTakesItsShareAtOnce) {
  const StepShape shape{.global_batch = 32, .sequence_length = 1024, .micro_batch = 0};
  EXPECT_EQ(verdict(model(), layout({.data = 4}), shape), "");
  EXPECT_EQ(shape.sequences({.data = 4}), 8);
  EXPECT_EQ(shape.microbatches({.data = 4}), 1);
}

TEST(Layout, ContextRanksHaveTwoTokensEach) {
  EXPECT_EQ(verdict(model(), layout({.context = 4}), {32, 8, 1}), "");
  EXPECT_THAT(verdict(model(), layout({.context = 8}), {32, 8, 1}), HasSubstr("nearest valid: 4"));
}

TEST(Layout, SequencesAreFilledUpToPiecesOfTheSameLength) {
  EXPECT_EQ(kShape.padded_length({.context = 4, .tensor = 2}), 1024);
  EXPECT_EQ((StepShape{1, 1023, 1}.padded_length({.context = 4, .tensor = 2})), 1024);
  EXPECT_EQ((StepShape{1, 9, 1}.padded_length({.tensor = 4})), 12);
  EXPECT_EQ((StepShape{1, 9, 1}.padded_length({})), 9);
}

TEST(Layout, SaysWhatItIs) {
  Layout l = interleaved(2, 4);
  l.zero = 1;
  EXPECT_EQ(l.to_string(), "pipeline 2; ZeRO 1; interleaved, 4 virtual stages");
  EXPECT_EQ(Layout().to_string(), "one rank");
}

}  // namespace
}  // namespace troupe::parallel
