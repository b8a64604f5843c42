#include "parallel/plan/kernel_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

using kernels::DType;

// Two processors, tiles of 4 × 8, 10 FLOP/s sustained in all, and memory that is never in the way.
DeviceSpec small() {
  DeviceSpec device;
  device.peak_bf16 = 20;
  device.product_rate = 0.5;
  device.processors = 2;
  device.tile_rows = 4;
  device.tile_columns = 8;
  device.memory_bandwidth = 1e12;
  return device;
}

TEST(KernelTime, WholeWavesOfTilesTakeWhatTheirFlopsTake) {
  // 2 × 2 tiles in two waves: 2·8·16·10 FLOP at 10 FLOP/s.
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {8, 16, 10}), 256);
}

TEST(KernelTime, APartOfATileAndOfAWaveTakesAWholeOne) {
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {5, 16, 10}), 256) << "rows 5–8 are of a tile";
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {4, 24, 10}), 256) << "the third tile is alone in its wave";
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {4, 16, 10}), 128);
}

TEST(KernelTime, TilesLieTheBetterWay) {
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {8, 4, 10}),
                   product_seconds(small(), DType::bf16, {4, 8, 10}));
}

TEST(KernelTime, GroupsShareWaves) {
  EXPECT_DOUBLE_EQ(product_seconds(small(), DType::bf16, {4, 8, 10, 2, 2}),
                   product_seconds(small(), DType::bf16, {4, 8, 10}));
}

TEST(KernelTime, AProductOfFewRowsTakesWhatReadingItTakes) {
  DeviceSpec device = small();
  device.memory_bandwidth = 1;
  EXPECT_DOUBLE_EQ(product_seconds(device, DType::bf16, {1, 100, 100}), 2 * 100 + 2 * 100 * 100 + 2 * 100);
}

TEST(KernelTime, TheRampIsPaidByEveryTile) {
  DeviceSpec device = small();
  device.tile_ramp = 10;
  EXPECT_DOUBLE_EQ(product_seconds(device, DType::bf16, {8, 16, 10}), 512);
}

TEST(KernelTime, GroupsThatLeaveTheNodeShareItsAdapters) {
  DeviceSpec device;
  device.node_devices = 8;
  device.node_bandwidth = 400;
  device.network_bandwidth = 50;
  EXPECT_EQ(links_of(device, 8, 1).ring_bandwidth(device), 400);
  EXPECT_EQ(links_of(device, 64, 1).in_node, 8);
  EXPECT_EQ(links_of(device, 64, 1).ring_bandwidth(device), 400) << "eight adapters at 50";
  EXPECT_EQ(links_of(device, 64, 4).ring_bandwidth(device), 100);
  EXPECT_EQ(links_of(device, 64, 8).ring_bandwidth(device), 50);
  EXPECT_EQ(links_of(device, 2, 8).pair_bandwidth(device), 50);
  // Of 16 ranks eight are in the node, seven of them others: 8 of 15 parts leave.
  EXPECT_DOUBLE_EQ(links_of(device, 16, 1).cross_bandwidth(device), 50 * 15.0 / 8);
}

TEST(Device, AnUnknownOneBringsTheKnown) {
  EXPECT_EQ(device_named("h100")->name, "h100");
  const auto unknown = device_named("h1000");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().exit_code(), 2);
  EXPECT_THAT(unknown.error().message(), testing::HasSubstr("h100, h200, cpu"));
}

TEST(Device, SaysNothingThatIsImpossible) {
  for (const DeviceSpec& d : devices()) {
    for (double share : {d.product_rate, d.attention_forward, d.attention_backward, d.exposed, d.overlap_cost}) {
      EXPECT_GE(share, 0) << d.name;
      EXPECT_LE(share, 1) << d.name;
    }
    for (double positive :
         {d.peak_bf16, d.peak_f32, d.memory_bytes, d.memory_bandwidth, d.node_bandwidth, d.network_bandwidth})
      EXPECT_GT(positive, 0) << d.name;
  }
}

}  // namespace
}  // namespace troupe::parallel
