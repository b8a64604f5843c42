#include "parallel/plan/step_time.h"

#include <gtest/gtest.h>

#include <cmath>

namespace troupe::parallel {
namespace {

using kernels::DType;

DecoderConfig model() {
  DecoderConfig m;
  m.layers = 24;
  m.width = 4096;
  m.heads = 32;
  m.vocabulary = 32000;
  m.hidden = 16384;
  m.mlp = MlpKind::gelu;
  EXPECT_TRUE(m.complete().ok());
  return m;
}

const Numerics kNumerics{DType::bf16, DType::bf16};
constexpr StepShape kShape{.global_batch = 64, .sequence_length = 4096, .micro_batch = 1};

// A device on which nothing but computing takes time.
DeviceSpec compute_only() {
  DeviceSpec device;
  device.peak_bf16 = 1e15;
  device.memory_bandwidth = device.node_bandwidth = device.network_bandwidth = 1e30;
  device.node_devices = 8;
  return device;
}

StepTime time_of(const DeviceSpec& device, const Layout& layout, StepShape shape = kShape,
                 Recompute recompute = Recompute::none) {
  return step_time(model(), kNumerics, device, layout, shape, recompute);
}

Layout layout_of(MeshSizes mesh, int virtual_stages = 1) {
  Layout layout;
  layout.mesh = mesh;
  layout.virtual_stages = virtual_stages;
  if (virtual_stages > 1) layout.schedule = Schedule::interleaved;
  return layout;
}

TEST(StepTime, OnAPerfectDeviceItIsTheFlopsOverThePeak) {
  const StepTime t = time_of(compute_only(), {});
  // Products exactly; attention's backward has five products for the forward's two, which 6N counts as four.
  const DecoderConfig m = model();
  const double attention = 4.0 * 32 * 128 * (4096 + 1) / 2 * 24 * 64 * 4096 * (1 + 2.5) / 1e15;
  const double short_of = 4096.0 / (4096 + 512);
  EXPECT_NEAR(t.attention, attention / short_of, 1e-9 * attention);
  EXPECT_NEAR(t.products, model_flops(m, kShape) / 1e15 - attention * 3 / 3.5, 1e-6 * t.products);
  EXPECT_NEAR(t.total(), t.products + t.attention, 1e-9);
}

TEST(StepTime, TheBubbleIsTheSchedules) {
  const DeviceSpec device = compute_only();
  const auto bubble = [&](int pipeline, int v) {
    DecoderConfig m = model();
    m.vocabulary = 1;  // a head of no size: all stages are equal
    const StepTime t = step_time(m, kNumerics, device, layout_of({.pipeline = pipeline}, v), kShape, Recompute::none);
    return t.bubble / (t.products + t.attention);
  };
  // (p − 1) / (m v): Narayanan et al. 2021, section 2.2.
  EXPECT_NEAR(bubble(4, 1), 3.0 / 64, 1e-5);
  EXPECT_NEAR(bubble(8, 1), 7.0 / 64, 1e-5);
  EXPECT_NEAR(bubble(8, 3), 7.0 / 64 / 3, 1e-5);
}

TEST(StepTime, AStageWithMoreToDoHoldsUpTheOthers) {
  DecoderConfig m = model();
  m.vocabulary = 1;
  m.layers = 25;
  const StepTime t = step_time(m, kNumerics, compute_only(), layout_of({.pipeline = 4}), kShape, Recompute::none);
  // Stages of 6, 7, 6, 6 layers: as slow as four of 7.
  EXPECT_NEAR(t.imbalance / (t.products + t.attention), 7 / 6.25 - 1, 1e-4);
}

TEST(StepTime, RecomputingBlocksIsOneMoreForward) {
  const DeviceSpec device = compute_only();
  const double once = time_of(device, {}).products;
  const StepTime again = time_of(device, {}, kShape, Recompute::block);
  EXPECT_NEAR(again.products - once,
              recomputed_flops(model(), kShape, Recompute::block) / 1e15 -
                  (again.attention - time_of(device, {}).attention) * 4096 / (4096 + 512),
              1e-3 * once);
}

TEST(StepTime, SlowLinksOrMemoryOrStragglersTakeLonger) {
  const DeviceSpec h100 = *device_named("h100");
  const Layout layout = layout_of({.pipeline = 2, .data = 4, .tensor = 8}, 2);
  const double before = time_of(h100, layout).total();
  for (double DeviceSpec::* speed :
       {&DeviceSpec::memory_bandwidth, &DeviceSpec::node_bandwidth, &DeviceSpec::network_bandwidth,
        &DeviceSpec::product_rate, &DeviceSpec::attention_backward}) {
    DeviceSpec slower = h100;
    slower.*speed /= 2;
    EXPECT_GT(time_of(slower, layout).total(), before);
  }
  for (double DeviceSpec::* cost :
       {&DeviceSpec::kernel_seconds, &DeviceSpec::node_latency, &DeviceSpec::network_latency, &DeviceSpec::spread,
        &DeviceSpec::exposed, &DeviceSpec::overlap_cost, &DeviceSpec::tile_ramp}) {
    DeviceSpec slower = h100;
    slower.*cost *= 2;
    EXPECT_GT(time_of(slower, layout).total(), before);
  }
}

TEST(StepTime, GradientsHideBehindBackwardWhereItIsLongEnough) {
  DeviceSpec device = compute_only();
  device.network_bandwidth = 50e9;
  Layout layout = layout_of({.data = 8, .tensor = 8});
  layout.zero = 1;
  const StepTime long_one = time_of(device, layout, {.global_batch = 64, .sequence_length = 4096, .micro_batch = 8});
  const StepTime short_one = time_of(device, layout, {.global_batch = 64, .sequence_length = 4096, .micro_batch = 1});
  EXPECT_LT(long_one.data, short_one.data);
}

TEST(StepTime, FullAttentionIsPalmsFormula) {
  const DecoderConfig m = model();
  // 6 N + 12 L H d T for each token; N without the table that is only looked up.
  const double n = static_cast<double>(m.parameters() - m.parameters_embedding() - (2 * 24 + 1) * 4096);
  const double per_token = 6 * n + 12.0 * 24 * 4096 * 4096;
  EXPECT_NEAR(model_flops_full_attention(m, kShape) / (64 * 4096), per_token, 1e-9 * per_token);
}

}  // namespace
}  // namespace troupe::parallel
