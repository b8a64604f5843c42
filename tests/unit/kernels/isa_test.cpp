#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu/attention_job.h"

namespace troupe::kernels::cpu {
namespace {

// The environment's cap holds again for the tests that follow.
class Isa : public testing::Test {
 protected:
  void TearDown() override {
    const char* cap = std::getenv("TROUPE_MAX_ISA");
    EXPECT_TRUE(cap_isa(cap ? cap : "").ok());
  }
};

TEST_F(Isa, ACapHoldsForEveryLaterChoiceOfKernels) {
  int64_t before = 1 << 20;
  for (const char* cap : {"avx512", "avx2", "portable"}) {
    ASSERT_TRUE(cap_isa(cap).ok());
    const int64_t first = attention_engine_f32().tile_rows;
    if (std::string(cap) != "avx512") EXPECT_FALSE(has_bf16_dot());  // asks for the targets
    isa_name();
    EXPECT_EQ(attention_engine_f32().tile_rows, first) << cap;  // a tile is as wide as the vectors
    EXPECT_LE(first, before) << cap;
    before = first;
  }
  EXPECT_EQ(isa_name(), "portable");
  ASSERT_TRUE(cap_isa("").ok());
  if (isa_name() != "portable") EXPECT_GT(attention_engine_f32().tile_rows, before);
}

}  // namespace
}  // namespace troupe::kernels::cpu
