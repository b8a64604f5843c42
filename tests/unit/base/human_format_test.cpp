#include "runtime/base/human_format.h"

#include <gtest/gtest.h>

#include <cmath>

namespace troupe {
namespace {

TEST(HumanFormat, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(99.96 * 1024), "100 KiB");
  EXPECT_EQ(human_bytes(1023.6 * 1024), "1.0 MiB");
  EXPECT_EQ(human_bytes(120.0 * (1 << 20)), "120 MiB");
  EXPECT_EQ(human_bytes(0x1p64), "16.0 EiB");
  EXPECT_EQ(human_bytes(-2048), "-2.0 KiB");
}

TEST(HumanFormat, Counts) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(999.6), "1.0K");
  EXPECT_EQ(human_count(1'234'567), "1.2M");
  EXPECT_EQ(human_count(999'950), "1.0M");
  EXPECT_EQ(human_count(124.4e6), "124M");
  EXPECT_EQ(human_count(405e9), "405B");
  EXPECT_EQ(human_count(15.6e12), "15.6T");
  EXPECT_EQ(human_count(2e15), "2.0Q");
  EXPECT_EQ(human_count(3.8e25), "3.8e+25");
  EXPECT_EQ(human_count(-1500), "-1.5K");
  EXPECT_EQ(human_count(std::nan("")), "nan");
}

TEST(HumanFormat, Durations) {
  EXPECT_EQ(human_duration(0), "0us");
  EXPECT_EQ(human_duration(850e-6), "850us");
  EXPECT_EQ(human_duration(0.9996e-3), "1ms");
  EXPECT_EQ(human_duration(0.12), "120ms");
  EXPECT_EQ(human_duration(0.9996), "1.0s");
  EXPECT_EQ(human_duration(5.21), "5.2s");
  EXPECT_EQ(human_duration(9.96), "10s");
  EXPECT_EQ(human_duration(42.3), "42s");
  EXPECT_EQ(human_duration(59.6), "1m00s");
  EXPECT_EQ(human_duration(65), "1m05s");
  EXPECT_EQ(human_duration(3599.4), "59m59s");
  EXPECT_EQ(human_duration(3599.7), "1h00m");
  EXPECT_EQ(human_duration(7380), "2h03m");
  EXPECT_EQ(human_duration(86399), "1d00h");
  EXPECT_EQ(human_duration(3 * 86400 + 4 * 3600), "3d04h");
  EXPECT_EQ(human_duration(-1), "?");
  EXPECT_EQ(human_duration(INFINITY), "?");
  EXPECT_EQ(human_duration(std::nan("")), "?");
}

}  // namespace
}  // namespace troupe
