#include "parallel/schedule/schedule.h"

#include <gtest/gtest.h>

#include <map>

namespace troupe::parallel {
namespace {

// "F0 F1 B0", with virtual stages "F0.1".
std::string print(const std::vector<Pass>& order, bool virtual_stages = false) {
  std::string text;
  for (const Pass& pass : order) {
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", pass.forward ? 'F' : 'B', pass.microbatch);
    if (virtual_stages) text += fmt::format(".{}", pass.virtual_stage);
  }
  return text;
}

TEST(Schedule, GpipeRunsAllForwardThenAllBackward) {
  EXPECT_EQ(print(passes({Schedule::gpipe, 2, 1, 3}, 0)), "F0 F1 F2 B0 B1 B2");
  EXPECT_EQ(print(passes({Schedule::gpipe, 2, 1, 3}, 1)), "F0 F1 F2 B0 B1 B2");
}

// Narayanan et al. 2021, figure 3: eight microbatches on four stages.
TEST(Schedule, OneForwardOneBackwardWarmsUpLongerTheEarlierTheStage) {
  const Pipeline pipeline{Schedule::one_f_one_b, 4, 1, 8};
  EXPECT_EQ(print(passes(pipeline, 0)), "F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7");
  EXPECT_EQ(print(passes(pipeline, 3)), "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7");
  EXPECT_EQ(print(passes({Schedule::one_f_one_b, 4, 1, 2}, 0)), "F0 F1 B0 B1");
}

// The same paper, figure 4: microbatches go through both chunks in groups of four.
TEST(Schedule, InterleavedTakesGroupsThroughOneChunkAfterAnother) {
  const Pipeline pipeline{Schedule::interleaved, 4, 2, 8};
  EXPECT_EQ(print(passes(pipeline, 3), true).substr(0, 59),
            "F0.0 F1.0 F2.0 F3.0 F0.1 B0.1 F1.1 B1.1 F2.1 B2.1 F3.1 B3.1");
  EXPECT_EQ(print(passes(pipeline, 0), true).substr(0, 64),
            "F0.0 F1.0 F2.0 F3.0 F0.1 F1.1 F2.1 F3.1 F4.0 F5.0 F6.0 B0.1 F7.0");
  EXPECT_EQ(print(passes({Schedule::interleaved, 2, 2, 2}, 1), true), "F0.0 F1.0 F0.1 B0.1 F1.1 B1.1 B0.0 B1.0");
}

TEST(Schedule, InterleavedWithOneVirtualStageIs1f1b) {
  EXPECT_EQ(passes({Schedule::interleaved, 3, 1, 7}, 1), passes({Schedule::one_f_one_b, 3, 1, 7}, 1));
  EXPECT_TRUE(check({Schedule::interleaved, 3, 1, 7}, 3).ok());
}

TEST(Schedule, EveryPassOnceAndBackwardInTheSameOrderOfMicrobatchesEverywhere) {
  for (Schedule schedule : {Schedule::gpipe, Schedule::one_f_one_b, Schedule::interleaved}) {
    for (int p = 1; p <= 8; ++p) {
      for (int v = 1; v <= 4; ++v) {
        for (int m = 1; m <= 24; ++m) {
          const Pipeline pipeline{schedule, p, v, m};
          if (!check(pipeline, 64).ok()) continue;
          for (int stage = 0; stage < p; ++stage) {
            std::map<std::pair<int, int>, int> forward, backward;
            std::map<int, int> next;
            for (const Pass& pass : passes(pipeline, stage)) {
              const std::pair key(pass.microbatch, pass.virtual_stage);
              if (pass.forward) {
                ++forward[key];
                continue;
              }
              EXPECT_EQ(forward[key], 1);
              ++backward[key];
              EXPECT_EQ(pass.microbatch, next[pass.virtual_stage]++);
            }
            ASSERT_EQ(forward, backward);
            ASSERT_EQ(static_cast<int>(forward.size()), v * m);
            for (const auto& [key, times] : forward) ASSERT_EQ(times, 1);
          }
        }
      }
    }
  }
}

TEST(Schedule, ValidationBatchesGoInGroupsOfAnySize) {
  const Pipeline pipeline{Schedule::interleaved, 2, 2, 3};
  EXPECT_FALSE(check(pipeline, 4).ok());
  EXPECT_TRUE(check_forward(pipeline, 4).ok());
  EXPECT_EQ(print(forward_passes(pipeline, 1), true), "F0.0 F1.0 F0.1 F1.1 F2.0 F2.1");
}

TEST(Schedule, WhatBreaksARuleIsRefusedWithTheNearestValidChoice) {
  const auto message = [](const Pipeline& pipeline, int layers) {
    const Status status = check(pipeline, layers);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind(), ErrorKind::usage);
    return status.error().message();
  };
  EXPECT_EQ(
      message({Schedule::interleaved, 4, 2, 6}, 8),
      "6 microbatches (train.global_batch ÷ parallel.data ÷ train.micro_batch): the schedule \"interleaved\" takes "
      "them in groups of parallel.pipeline = 4; nearest valid: 4 or 8");
  EXPECT_TRUE(message({Schedule::interleaved, 4, 2, 3}, 8).ends_with("nearest valid: 4"));
  EXPECT_EQ(message({Schedule::interleaved, 4, 3, 8}, 11),
            "parallel.virtual_stages = 3: each virtual stage has a block at least, and parallel.pipeline = 4 leaves a "
            "stage 2 of model.layers = 11; nearest valid: 2");
  EXPECT_EQ(message({Schedule::one_f_one_b, 9, 1, 8}, 8),
            "parallel.pipeline = 9: each stage has a block at least, and model.layers = 8; nearest valid: 8");
  EXPECT_EQ(
      message({Schedule::one_f_one_b, 2, 2, 8}, 8),
      "parallel.virtual_stages = 2: only the schedule \"interleaved\" has virtual stages, and parallel.schedule = "
      "\"1f1b\"; nearest valid: 1");
  EXPECT_EQ(message({Schedule::interleaved, 1, 2, 8}, 8),
            "parallel.virtual_stages = 2: one stage has nothing to interleave with, and parallel.pipeline = 1; nearest "
            "valid: 1");
  EXPECT_TRUE(message({Schedule::gpipe, 1, 1, 0}, 8).ends_with("0 microbatches: each is 1 at least"));
  // What is called the nearest valid choice is valid.
  EXPECT_TRUE(check({Schedule::interleaved, 4, 2, 4}, 8).ok());
  EXPECT_TRUE(check({Schedule::interleaved, 4, 2, 8}, 11).ok());
  EXPECT_TRUE(check({Schedule::one_f_one_b, 8, 1, 8}, 8).ok());
}

TEST(Schedule, FormulasArePublishedOnes) {
  EXPECT_DOUBLE_EQ(bubble_fraction({Schedule::gpipe, 4, 1, 8}), 3.0 / 11);
  EXPECT_DOUBLE_EQ(bubble_fraction({Schedule::interleaved, 4, 2, 8}), 3.0 / 19);
  EXPECT_EQ(bubble_fraction({Schedule::one_f_one_b, 1, 1, 5}), 0);
  EXPECT_EQ(peak_live_passes({Schedule::gpipe, 4, 1, 8}, 1), 8);
  EXPECT_EQ(peak_live_passes({Schedule::one_f_one_b, 4, 1, 8}, 1), 3);
  EXPECT_EQ(peak_live_passes({Schedule::one_f_one_b, 4, 1, 2}, 0), 2);
  EXPECT_EQ(peak_live_passes({Schedule::interleaved, 4, 2, 8}, 0), 11);
  EXPECT_EQ(peak_live_passes({Schedule::interleaved, 4, 2, 4}, 0), 8);
}

}  // namespace
}  // namespace troupe::parallel
