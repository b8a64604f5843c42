#include "parallel/mesh/layout_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

using testing::HasSubstr;

DecoderConfig model(int64_t experts = 0) {
  DecoderConfig m;
  m.vocabulary = 1000;
  m.layers = 12;
  m.width = 768;
  m.heads = 12;
  m.kv_heads = 2;
  m.hidden = 2048;
  m.experts.count = experts;
  m.experts.hidden = 96;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

Result<LayoutOptions> options(const std::string& lines) {
  Config config = TROUPE_TRY(Config::parse("[parallel]\n" + lines, "test.toml"));
  const LayoutOptions read = read_layout_options(config);
  TROUPE_TRY(config.finish());
  return read;
}

Result<Layout> resolved(const std::string& lines, std::optional<int> ranks, int64_t experts = 0) {
  const LayoutOptions read = TROUPE_TRY(options(lines));
  return resolve_layout(read, ranks, model(experts));
}

MeshSizes mesh_of(const std::string& lines, std::optional<int> ranks, int64_t experts = 0) {
  const auto layout = resolved(lines, ranks, experts);
  EXPECT_TRUE(layout.ok()) << (layout.ok() ? "" : layout.error().message());
  return layout.ok() ? layout->mesh : MeshSizes();
}

std::string refusal(const std::string& lines, std::optional<int> ranks) {
  const auto layout = resolved(lines, ranks);
  return layout.ok() ? "" : layout.error().message();
}

TEST(LayoutOptions, DataTakesWhatTheOtherAxesLeave) {
  EXPECT_EQ(mesh_of("", std::nullopt), MeshSizes());
  EXPECT_EQ(mesh_of("", 6), (MeshSizes{.data = 6}));
  EXPECT_EQ(mesh_of("tensor = 4\npipeline = 2", 64), (MeshSizes{.pipeline = 2, .data = 8, .tensor = 4}));
  EXPECT_EQ(mesh_of("tensor = 4\npipeline = 2", std::nullopt), (MeshSizes{.pipeline = 2, .tensor = 4}));
}

TEST(LayoutOptions, OneAxisMayBeAuto) {
  EXPECT_EQ(mesh_of("tensor = \"auto\"", 8), (MeshSizes{.tensor = 8}));
  EXPECT_EQ(mesh_of("data = 2\ncontext = \"auto\"", 8), (MeshSizes{.data = 2, .context = 4}));
  EXPECT_THAT(refusal("data = \"auto\"\ncontext = \"auto\"", 8), HasSubstr("both \"auto\""));
  EXPECT_EQ(mesh_of("expert = \"auto\"", 12, 8).expert, 4) << "as many as divide 8 experts and 12 ranks";
  EXPECT_EQ(mesh_of("expert = 4\nexpert_tensor = \"auto\"", 8, 8).expert_tensor, 2);
  EXPECT_EQ(mesh_of("expert = \"auto\"", 12).expert, 1) << "there are no experts";
  EXPECT_THAT(refusal("expert = \"auto\"\nexpert_tensor = \"auto\"", 8), HasSubstr("both \"auto\""));
}

TEST(LayoutOptions, AxesThatDoNotMakeTheRanksAreRefused) {
  EXPECT_THAT(refusal("tensor = 4", 10),
              HasSubstr("make 4 (tensor 4), which does not divide that; nearest valid: 8 or 12"));
  EXPECT_THAT(refusal("data = 2", 4),
              HasSubstr("4 ranks asked for, but the axes of [parallel] make 2 (parallel.data = 2)"));
}

TEST(LayoutOptions, TheScheduleFollowsVirtualStages) {
  EXPECT_EQ(resolved("pipeline = 2", 2)->schedule, Schedule::one_f_one_b);
  EXPECT_EQ(resolved("pipeline = 2\nvirtual_stages = 3", 2)->schedule, Schedule::interleaved);
  EXPECT_EQ(resolved("pipeline = 2\nschedule = \"gpipe\"", 2)->schedule, Schedule::gpipe);
}

TEST(LayoutOptions, WhatTrainingRunsOnKeepsTheRulesAndSharesHeads) {
  const auto read = options("tensor = 4\nzero = 2");
  ASSERT_TRUE(read.ok());
  const auto layout = resolve_layout(*read, 8, model(), {.global_batch = 6, .sequence_length = 5});
  ASSERT_TRUE(layout.ok()) << layout.error().message();
  EXPECT_EQ(layout->mesh, (MeshSizes{.data = 2, .tensor = 4, .kv_sharing = 2}));
  EXPECT_EQ(layout->zero, 2);
  const auto refused = resolve_layout(*read, 8, model(), {.global_batch = 5, .sequence_length = 5});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().exit_code(), 2);
  EXPECT_THAT(refused.error().message(), HasSubstr("parallel.data = 2 does not divide train.global_batch = 5"));
}

TEST(LayoutOptions, MoreRanksThanThereCanBeAreRefusedNotCounted) {
  EXPECT_THAT(refusal("pipeline = 100000\ntensor = 100000\ncontext = 100000", 8), HasSubstr("parallel."));
  EXPECT_THAT(refusal("expert = 100000\nexpert_tensor = 100000", 8), HasSubstr("parallel.expert"));
}

TEST(LayoutOptions, ValuesOutOfRangeAreTheConfigs) {
  EXPECT_THAT(refusal("zero = 4", 1), HasSubstr("test.toml:2"));
  EXPECT_THAT(refusal("tensor = 0", 1), HasSubstr("parallel.tensor"));
  EXPECT_THAT(refusal("schedule = \"1f2b\"", 1), HasSubstr("parallel.schedule"));
}

}  // namespace
}  // namespace troupe::parallel
