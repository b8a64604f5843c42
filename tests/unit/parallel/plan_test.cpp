// Which layouts there are, and the search for the fastest.
#include "parallel/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

namespace troupe::parallel {
namespace {

using kernels::DType;

constexpr Numerics kBf16{DType::bf16, DType::bf16};

class Search : public testing::Test {
 protected:
  PlanSearch search(const PlanChoices& choices, size_t keep = 8) const {
    return search_plans({model, kBf16, device, 1024, 4096}, choices, keep);
  }
  DeviceSpec device = *device_named("h100");
  DecoderConfig model = *decoder_preset("llama-8b");
};

TEST_F(Search, RanksWhatFitsByTime) {
  PlanChoices choices;
  choices.ranks = 64;
  const PlanSearch found = search(choices);
  ASSERT_EQ(found.best.size(), 8u);
  for (size_t i = 0; i < found.best.size(); ++i) {
    const Plan& plan = found.best[i];
    EXPECT_TRUE(plan.fits);
    EXPECT_EQ(plan.layout.mesh.ranks(), 64);
    EXPECT_TRUE(check_layout(model, plan.layout, plan.shape).ok());
    EXPECT_LE(plan.layout.mesh.tensor, 8);
    if (i > 0) EXPECT_GE(plan.step_seconds(), found.best[i - 1].step_seconds());
  }
  EXPECT_LE(found.fastest->step_seconds(), found.best.front().step_seconds());
}

TEST_F(Search, FindsWhatTryingEverythingFinds) {
  PlanChoices choices;
  choices.ranks = 16;
  device.memory_bytes = 24.0 * (1 << 30);  // so that memory matters
  const double best = search(choices).best.front().step_seconds();
  double least = 1e30;
  for (int t : {1, 2, 4, 8}) {
    for (int p : {1, 2, 4, 8, 16}) {
      for (int c : {1, 2, 4}) {
        if (16 % (t * p * c) != 0) continue;
        for (int v = 1; v <= 16; ++v) {
          for (int zero = 0; zero <= 3; ++zero) {
            for (int64_t batch : {1, 2, 4, 8, 16, 32}) {
              for (Recompute recompute : {Recompute::none, Recompute::attention, Recompute::block}) {
                Layout layout;
                layout.mesh = {.pipeline = p, .data = 16 / (t * p * c), .context = c, .tensor = t};
                layout.zero = zero;
                layout.virtual_stages = v;
                if (v > 1) layout.schedule = Schedule::interleaved;
                if (!check_layout(model, layout, {1024, 4096, batch}).ok()) continue;
                const Plan plan = make_plan({model, kBf16, device, 1024, 4096}, layout, batch, recompute);
                if (plan.fits) least = std::min(least, plan.step_seconds());
              }
            }
          }
        }
      }
    }
  }
  EXPECT_DOUBLE_EQ(best, least);
}

TEST_F(Search, WhatIsFixedStays) {
  PlanChoices choices;
  choices.ranks = 64;
  choices.tensor = 4;
  choices.zero = 2;
  choices.micro_batch = 2;
  choices.recompute = Recompute::block;
  choices.schedule = Schedule::gpipe;
  for (const Plan& plan : search(choices).best) {
    EXPECT_EQ(plan.layout.mesh.tensor, 4);
    EXPECT_EQ(plan.layout.zero, 2);
    EXPECT_EQ(plan.shape.micro_batch, 2);
    EXPECT_EQ(plan.recompute, Recompute::block);
    EXPECT_EQ(plan.layout.schedule, Schedule::gpipe);
  }
}

TEST_F(Search, SaysWhatWouldNeedLeastWhereNothingFits) {
  model = *decoder_preset("llama-405b");
  PlanChoices choices;
  choices.ranks = 8;
  const PlanSearch found = search(choices);
  EXPECT_TRUE(found.best.empty());
  EXPECT_GT(found.valid, 0);
  ASSERT_TRUE(found.smallest.has_value());
  EXPECT_GT(static_cast<double>(found.smallest->memory.total()), device.memory_bytes);
}

TEST_F(Search, ExpertsAreSpreadOverRanks) {
  model = *decoder_preset("llama-8b");
  model.experts.count = 64;
  model.experts.hidden = 2048;
  ASSERT_TRUE(model.complete().ok());
  PlanChoices choices;
  choices.ranks = 64;
  const PlanSearch found = search(choices, 100);
  EXPECT_TRUE(std::ranges::any_of(found.best, [](const Plan& plan) { return plan.layout.mesh.expert > 1; }));
}

TEST_F(Search, TenThousandGpusTakeSeconds) {
  model = *decoder_preset("llama-405b");
  PlanChoices choices;
  choices.ranks = 16384;
  const auto start = std::chrono::steady_clock::now();
  const PlanSearch found = search_plans({model, Numerics::of(DType::bf16), device, 2048, 8192}, choices, 8);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%lld layouts in %.2f s\n", static_cast<long long>(found.valid), seconds);
  EXPECT_FALSE(found.best.empty());
#ifdef NDEBUG
  EXPECT_LT(seconds, 20) << "seconds on an idle core";
#endif
}

}  // namespace
}  // namespace troupe::parallel
