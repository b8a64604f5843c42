// rms_norm and layer_norm.
#include <gtest/gtest.h>

#include "kernels/ops/add.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/rms_norm.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

constexpr double kEpsilon = 1e-5;

Tensor tensor(Device& device, std::vector<double> values, Shape shape) {
  return Tensor::from<double>(device, values, shape);
}

TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
  const auto device = make_cpu_device(1);
  Tape tape(*device, Tape::Mode::no_gradient);
  TestLeaf weight("w", tensor(*device, {1, 2}, {2}));
  const Value x = tape.constant(tensor(*device, {3, 4}, {1, 2}));
  const std::vector<double> y = rms_norm(tape, x, tape.parameter(weight), 0, DType::f64).tensor().to_host<double>();
  const double rms = std::sqrt(12.5);
  EXPECT_DOUBLE_EQ(y[0], 3 / rms);
  EXPECT_DOUBLE_EQ(y[1], 2 * 4 / rms);
}

TEST(RmsNorm, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  for (int64_t width : {1, 5, 8}) {
    expect_gradients_match(
        *device, [](Tape& t, auto x, auto w) { return rms_norm(t, x[0], w[0], kEpsilon, DType::f64); },
        {normal_tensor(*device, DType::f64, {2, 10, width}, 1)}, {normal_tensor(*device, DType::f64, {width}, 2)});
  }
}

TEST(RmsNorm, FastPathsMatchTheReferenceAtOddSizes) {
  for (DTypePair pair : kDTypePairs) {
    for (int64_t width : kOddSizes) {
      SCOPED_TRACE(trace_of(pair, width));
      // The second use of x makes dx add to the residual's gradient.
      const OpFunction block = [](Tape& t, auto x, auto w, DType compute) {
        return x[0] + rms_norm(t, x[0], w[0], kEpsilon, compute);
      };
      expect_matches_f64(block, {{37, width}}, pair.stream, {{width}}, pair.compute);
      if (width == 1) continue;  // without the residual, the gradient there is rounding noise
      const OpFunction alone = [](Tape& t, auto x, auto w, DType compute) {
        return rms_norm(t, x[0], w[0], kEpsilon, compute);
      };
      expect_matches_f64(alone, {{3, width}}, pair.stream, {{width}}, pair.compute, 100);
    }
  }
}

TEST(RmsNorm, ARowDoesNotSeeTheOthers) {
  const auto device = make_cpu_device(2);
  const Tensor x = normal_tensor(*device, DType::f32, {40, 100}, 1);
  TestLeaf weight("w", normal_tensor(*device, DType::f32, {100}, 2));
  Tape tape(*device, Tape::Mode::no_gradient);
  const auto run = [&](const Tensor& rows) {
    return rms_norm(tape, tape.constant(rows), tape.parameter(weight), kEpsilon, DType::f32).tensor().to_host<float>();
  };
  const std::vector<float> all = run(x), one = run(x.slice(17, 18));
  EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + 1700));
}

TEST(RmsNorm, NamesTheShapesItRefuses) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  TestLeaf weight("w", Tensor::zeros(*device, DType::f32, {5}));
  const Value x = tape.constant(Tensor::zeros(*device, DType::f32, {2, 4}));
  try {
    rms_norm(tape, x, tape.parameter(weight), kEpsilon, DType::f32);
    FAIL();
  } catch (const CheckFailure& failure) {
    EXPECT_NE(std::string(failure.what()).find("x [2, 4], weight [5]"), std::string::npos) << failure.what();
  }
}

TEST(LayerNorm, CentersAndScalesEachRow) {
  const auto device = make_cpu_device(1);
  Tape tape(*device, Tape::Mode::no_gradient);
  TestLeaf weight("w", tensor(*device, {1, 2, 1}, {3})), bias("b", tensor(*device, {0, 0, 5}, {3}));
  const Value x = tape.constant(tensor(*device, {1, 2, 6}, {1, 3}));
  const std::vector<double> y =
      layer_norm(tape, x, tape.parameter(weight), tape.parameter(bias), 0, DType::f64).tensor().to_host<double>();
  const double deviation = std::sqrt((4.0 + 1 + 9) / 3);
  EXPECT_DOUBLE_EQ(y[0], -2 / deviation);
  EXPECT_DOUBLE_EQ(y[1], -2 / deviation);
  EXPECT_DOUBLE_EQ(y[2], 3 / deviation + 5);
}

TEST(LayerNorm, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const auto full = [](Tape& t, auto x, auto w) { return layer_norm(t, x[0], w[0], w[1], kEpsilon, DType::f64); };
  const auto plain = [](Tape& t, auto x, auto w) { return layer_norm(t, x[0], w[0], Value(), kEpsilon, DType::f64); };
  for (int64_t width : {2, 5, 8}) {
    const Tensor x = normal_tensor(*device, DType::f64, {19, width}, 1);
    const Tensor weight = normal_tensor(*device, DType::f64, {width}, 2);
    const Tensor bias = normal_tensor(*device, DType::f64, {width}, 3);
    expect_gradients_match(*device, full, {x}, {weight, bias});
    expect_gradients_match(*device, plain, {x}, {weight});
  }
}

TEST(LayerNorm, FastPathsMatchTheReferenceAtOddSizes) {
  for (DTypePair pair : kDTypePairs) {
    for (int64_t width : kOddSizes) {
      if (width == 1) continue;  // x - mean is rounding noise there
      SCOPED_TRACE(trace_of(pair, width));
      const OpFunction block = [](Tape& t, auto x, auto w, DType compute) {
        return x[0] + layer_norm(t, x[0], w[0], w[1], kEpsilon, compute);
      };
      expect_matches_f64(block, {{37, width}}, pair.stream, {{width}, {width}}, pair.compute);
      const OpFunction plain = [](Tape& t, auto x, auto w, DType compute) {
        return layer_norm(t, x[0], w[0], Value(), kEpsilon, compute);
      };
      expect_matches_f64(plain, {{3, width}}, pair.stream, {{width}}, pair.compute, 100);
    }
  }
}

TEST(LayerNorm, KeepsPrecisionFarFromZero) {
  const auto device = make_cpu_device(1);
  std::vector<double> values = normal(1000, 5);
  for (double& value : values) value += 100;
  const Tensor x = tensor(*device, values, {1, 1000}).to(DType::f32);
  const std::vector<Tensor> weights = {normal_tensor(*device, DType::f32, {1000}, 2)};
  const OpFunction f = [](Tape& t, auto v, auto w, DType compute) {
    return layer_norm(t, v[0], w[0], Value(), kEpsilon, compute);
  };
  const OpResult exact = run_op(*device, f, {x.to(DType::f64)}, {weights[0].to(DType::f64)}, DType::f64, DType::f32);
  // x near 100 carries 4e-6 of absolute rounding in the mean; the variance is taken about it.
  for_each_target(
      [&](const char*) { expect_close(run_op(*device, f, {x}, weights, DType::f32, DType::f32), exact, 5e-5); });
}

}  // namespace
}  // namespace troupe::kernels::testing
