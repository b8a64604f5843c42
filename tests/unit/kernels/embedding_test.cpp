// embedding and rope: what depends on tokens and positions.
#include "kernels/ops/embedding.h"

#include <gtest/gtest.h>

#include "kernels/ops/rope.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

Tensor integers(Device& device, std::vector<int32_t> values, Shape shape) {
  return Tensor::from<int32_t>(device, values, shape);
}

TEST(Embedding, LooksRowsUp) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  TestLeaf table("table", Tensor::from<float>(*device, std::vector<float>{0, 1, 10, 11, 20, 21}, {3, 2}));
  const Value y = embedding(tape, integers(*device, {2, 0}, {1, 2}), tape.parameter(table), DType::f32);
  EXPECT_EQ(y.shape(), Shape({1, 2, 2}));
  EXPECT_EQ(y.tensor().to_host<float>(), (std::vector<float>{20, 21, 0, 1}));
}

TEST(Embedding, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const Tensor tokens = integers(*device, {1, 0, 1, 4, 1, 3}, {2, 3});
  expect_gradients_match(*device, [&](Tape& t, auto, auto w) { return embedding(t, tokens, w[0], DType::f64); }, {},
                         {normal_tensor(*device, DType::f64, {5, 7}, 1)});
}

TEST(Embedding, FastPathsMatchTheReferenceAtOddSizes) {
  for (DTypePair pair : kDTypePairs) {
    for (int64_t width : kOddSizes) {
      SCOPED_TRACE(trace_of(pair, width));
      const OpFunction f = [&](Tape& t, auto, auto w, DType compute) {
        std::vector<int32_t> tokens;
        for (int32_t i = 0; i < 100; ++i) tokens.push_back(i * i % 11);
        return embedding(t, integers(t.device(), tokens, {4, 25}), w[0], compute == DType::f64 ? compute : pair.stream);
      };
      expect_matches_f64(f, {}, pair.stream, {{11, width}}, pair.compute);
    }
  }
}

TEST(Embedding, NamesATokenOutsideTheTable) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  TestLeaf table("table", Tensor::zeros(*device, DType::f32, {10, 4}));
  for (int32_t bad : {10, -1}) {
    try {
      embedding(tape, integers(*device, {3, bad}, {2}), tape.parameter(table), DType::f32);
      FAIL();
    } catch (const CheckFailure& failure) {
      EXPECT_NE(std::string(failure.what()).find(fmt::format("token {} at index 1", bad)), std::string::npos);
    }
  }
}

TEST(Rope, TurnsThePairsOfHalves) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const auto table = std::make_shared<RopeTable>(*device, RopeOptions{.theta = 100, .head_width = 4}, 8, DType::f64);
  const Value x = tape.constant(Tensor::from<double>(*device, std::vector<double>{1, 0, 0, 1}, {1, 1, 1, 4}));
  const std::vector<double> y = rope(tape, x, integers(*device, {3}, {1, 1}), table).tensor().to_host<double>();
  // Pair (0, 2) turns by 3 radians, pair (1, 3) by 3 · 100^(-2/4) = 0.3.
  EXPECT_NEAR(y[0], std::cos(3.0), 1e-15);
  EXPECT_NEAR(y[2], std::sin(3.0), 1e-15);
  EXPECT_NEAR(y[1], -std::sin(0.3), 1e-15);
  EXPECT_NEAR(y[3], std::cos(0.3), 1e-15);
}

TEST(Rope, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const Tensor positions = integers(*device, {0, 1, 5, 2, 7, 3}, {2, 3});
  for (int64_t rotary : {0, 2}) {
    const auto table =
        std::make_shared<RopeTable>(*device, RopeOptions{.head_width = 6, .rotary = rotary}, 8, DType::f64);
    expect_gradients_match(*device, [&](Tape& t, auto x, auto) { return rope(t, x[0], positions, table); },
                           {normal_tensor(*device, DType::f64, {2, 3, 2, 6}, 1)});
  }
}

TEST(Rope, FastPathsMatchTheReferenceAtOddSizes) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t width : {2, 6, 14, 32, 34, 64, 66, 128, 130}) {
      for (int64_t rotary : {width, width / 4 * 2}) {
        SCOPED_TRACE(fmt::format("{}, width {}, rotary {}", name_of(type), width, rotary));
        const OpFunction f = [&](Tape& t, auto x, auto, DType compute) {
          const auto table = std::make_shared<RopeTable>(t.device(), RopeOptions{.head_width = width, .rotary = rotary},
                                                         1000, accumulator_of(compute));
          return rope(t, x[0], integers(t.device(), {0, 1, 2, 999, 500, 17}, {2, 3}), table);
        };
        expect_matches_f64(f, {{2, 3, 3, width}}, type, {}, type);
      }
    }
  }
}

TEST(Rope, DependsOnTheDistanceOfPositionsAlone) {
  const auto device = make_cpu_device(1);
  Tape tape(*device, Tape::Mode::no_gradient);
  RopeTables tables({.head_width = 16});
  const Tensor q = normal_tensor(*device, DType::f64, {1, 1, 1, 16}, 1);
  const Tensor k = normal_tensor(*device, DType::f64, {1, 1, 1, 16}, 2);
  const auto dot = [&](int32_t at_q, int32_t at_k) {
    const auto table = tables.get(*device, std::max(at_q, at_k) + 1, DType::f64);
    const std::vector<double> a =
        rope(tape, tape.constant(q), integers(*device, {at_q}, {1, 1}), table).tensor().to_host<double>();
    const std::vector<double> b =
        rope(tape, tape.constant(k), integers(*device, {at_k}, {1, 1}), table).tensor().to_host<double>();
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  EXPECT_NEAR(dot(9, 4), dot(1005, 1000), 1e-12);
  EXPECT_GT(std::abs(dot(9, 4) - dot(9, 8)), 1e-3);
}

TEST(Rope, TablesGrowOnDemandAndAreShared) {
  const auto device = make_cpu_device(1);
  RopeTables tables({.head_width = 8});
  const auto first = tables.get(*device, 100, DType::bf16);
  EXPECT_EQ(first->positions(), 128);
  EXPECT_EQ(first->cos().dtype(), DType::f32);
  EXPECT_EQ(tables.get(*device, 50, DType::f32), first);
  EXPECT_EQ(tables.get(*device, 129, DType::f32)->positions(), 256);
}

TEST(Rope, ScalingsKeepFastPairsAndStretchSlowOnes) {
  const RopeOptions plain{.head_width = 128};
  const std::vector<double> base = rope_frequencies(plain);
  RopeOptions options{.head_width = 128, .factor = 4, .original_context = 4096};

  options.scaling = RopeScaling::linear;
  const std::vector<double> linear = rope_frequencies(options);
  for (size_t i = 0; i < 64; ++i) EXPECT_DOUBLE_EQ(linear[i], base[i] / 4);

  options.scaling = RopeScaling::ntk;  // the slowest pair is stretched by exactly the factor, the fastest not at all
  const std::vector<double> ntk = rope_frequencies(options);
  EXPECT_DOUBLE_EQ(ntk[0], base[0]);
  EXPECT_NEAR(ntk[63], base[63] / 4, 1e-12 * base[63]);

  for (RopeScaling scaling : {RopeScaling::yarn, RopeScaling::llama3}) {
    options.scaling = scaling;
    const std::vector<double> scaled = rope_frequencies(options);
    EXPECT_DOUBLE_EQ(scaled[0], base[0]);
    EXPECT_DOUBLE_EQ(scaled[63], base[63] / 4);
    for (size_t i = 0; i < 64; ++i) {
      EXPECT_LE(scaled[i], base[i] * (1 + 1e-15));
      EXPECT_GE(scaled[i], base[i] / 4 * (1 - 1e-15));
      if (i > 0) EXPECT_LT(scaled[i], scaled[i - 1]);
    }
  }
  options.scaling = RopeScaling::yarn;
  EXPECT_NEAR(rope_magnitude(options), 0.1 * std::log(4.0) + 1, 1e-15);
  // Turns over 4096 tokens: pair 20 makes 36.7 > 32 (kept), pair 46 makes 0.87 < 1 (interpolated).
  const std::vector<double> yarn = rope_frequencies(options);
  EXPECT_DOUBLE_EQ(yarn[20], base[20]);
  EXPECT_DOUBLE_EQ(yarn[46], base[46] / 4);
}

TEST(Rope, NamesAPositionBeyondTheTable) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const auto table = std::make_shared<RopeTable>(*device, RopeOptions{.head_width = 4}, 8, DType::f32);
  const Value x = tape.constant(Tensor::zeros(*device, DType::f32, {1, 1, 1, 4}));
  EXPECT_THROW(rope(tape, x, integers(*device, {8}, {1, 1}), table), CheckFailure);
  EXPECT_THROW(rope_frequencies({.head_width = 4, .rotary = 3}), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels::testing
