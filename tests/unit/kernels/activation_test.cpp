// add, gelu and its kin, swiglu and geglu.
#include <gtest/gtest.h>

#include "kernels/ops/add.h"
#include "kernels/ops/swiglu.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

constexpr Activation kAll[] = {Activation::gelu, Activation::gelu_tanh, Activation::silu, Activation::relu_squared};

TEST(Add, AddsABranchToTheStream) {
  for (DTypePair pair : kDTypePairs) {
    for (int64_t width : kOddSizes) {
      SCOPED_TRACE(trace_of(pair, width));
      const OpFunction f = [](Tape&, auto x, auto w, DType) { return x[0] + w[0]; };
      expect_matches_f64(f, {{5, width}}, pair.stream, {{5, width}}, pair.compute);
    }
  }
}

TEST(Add, GradientsOfBothSidesMatchFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const std::vector<Tensor> inputs = {normal_tensor(*device, DType::f64, {3, 7}, 1),
                                      normal_tensor(*device, DType::f64, {3, 7}, 2)};
  expect_gradients_match(*device, [](Tape& t, auto x, auto) { return add(t, x[0], x[1]); }, inputs);
  expect_gradients_match(*device, [](Tape&, auto x, auto) { return x[0] + x[0] + x[1]; }, inputs);
}

TEST(Add, RefusesDifferentShapes) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value x = tape.constant(Tensor::zeros(*device, DType::f32, {2, 3}));
  const Value y = tape.constant(Tensor::zeros(*device, DType::f32, {3, 2}));
  EXPECT_THROW(x + y, CheckFailure);
}

TEST(Activation, HasTheKnownValues) {
  const auto device = make_cpu_device(1);
  Tape tape(*device, Tape::Mode::no_gradient);
  const Value x = tape.constant(Tensor::from<double>(*device, std::vector<double>{-1, 0, 2}, {3}));
  const auto values = [&](Activation kind) { return activation(tape, kind, x).tensor().to_host<double>(); };
  EXPECT_NEAR(values(Activation::gelu)[0], -0.15865525393145707, 1e-15);  // -Φ(-1)
  EXPECT_NEAR(values(Activation::gelu)[2], 2 * 0.97724986805182079, 1e-15);
  EXPECT_NEAR(values(Activation::gelu_tanh)[2], 1 + std::tanh(std::sqrt(2 / M_PI) * (2 + 0.044715 * 8)), 1e-15);
  EXPECT_NEAR(values(Activation::silu)[0], -1 / (1 + std::exp(1.0)), 1e-15);
  EXPECT_EQ(values(Activation::relu_squared), (std::vector<double>{0, 0, 4}));
  for (Activation kind : kAll) EXPECT_EQ(values(kind)[1], 0);
}

TEST(Activation, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const std::vector<Tensor> inputs = {normal_tensor(*device, DType::f64, {3, 7}, 1, 2),
                                      normal_tensor(*device, DType::f64, {3, 7}, 2)};
  for (Activation kind : kAll) {
    expect_gradients_match(*device, [=](Tape& t, auto x, auto) { return activation(t, kind, x[0]); }, {inputs[0]});
    expect_gradients_match(*device, [=](Tape& t, auto x, auto) { return gated(t, kind, x[0], x[1]); }, inputs);
    expect_gradients_match(*device, [=](Tape& t, auto x, auto) { return gated(t, kind, x[0], x[0]); }, {inputs[0]});
  }
}

TEST(Activation, FastPathsMatchTheReferenceAtOddSizes) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t width : kOddSizes) {
      for (Activation kind : kAll) {
        SCOPED_TRACE(fmt::format("{}, size {}, kind {}", name_of(type), width, static_cast<int>(kind)));
        const OpFunction one = [=](Tape& t, auto x, auto, DType) { return activation(t, kind, x[0]); };
        const OpFunction two = [=](Tape& t, auto x, auto, DType) { return gated(t, kind, x[0], x[1]); };
        expect_matches_f64(one, {{5, width}}, type, {}, type, 3);
        expect_matches_f64(two, {{5, width}, {5, width}}, type, {}, type, 3);
      }
    }
  }
}

TEST(Activation, IsAccurateOverTheWholeRange) {
  const auto device = make_cpu_device(1);
  std::vector<float> points;
  for (int i = -1300; i <= 1300; ++i) points.push_back(static_cast<float>(i) * 0.01f);
  const Tensor x = Tensor::from<float>(*device, points, {static_cast<int64_t>(points.size())});
  Tape tape(*device, Tape::Mode::no_gradient);
  for_each_target([&](const char*) {
    for (Activation kind : kAll) {
      const std::vector<double> found = activation(tape, kind, tape.constant(x)).tensor().to_host<double>();
      const std::vector<double> exact =
          activation(tape, kind, tape.constant(x.to(DType::f64))).tensor().to_host<double>();
      for (size_t i = 0; i < found.size(); ++i) {
        // An exponent of size e is rounded to 6e-8 · e: at x = -13 the tails e^(-85) and e^(-174) feel it.
        const double relative = 1e-6 + 1.2e-7 * points[i] * points[i];
        ASSERT_NEAR(found[i], exact[i], relative * std::abs(exact[i]) + 1e-37) << points[i];
      }
    }
  });
}

TEST(Activation, PassesNanOnAndSaturatesAtTheEnds) {
  const auto device = make_cpu_device(1);
  const float nan = std::nanf("");
  const Tensor x = Tensor::from<float>(*device, std::vector<float>{nan, 1e4f, -1e4f}, {3});
  Tape tape(*device, Tape::Mode::no_gradient);
  for_each_target([&](const char*) {
    for (DType type : {DType::f32, DType::bf16}) {
      for (Activation kind : kAll) {
        const std::vector<float> y = activation(tape, kind, tape.constant(x.to(type))).tensor().to_host<float>();
        EXPECT_TRUE(std::isnan(y[0])) << static_cast<int>(kind);
        EXPECT_GE(y[1], 9.9e3f) << static_cast<int>(kind);
        EXPECT_NEAR(y[2], 0, 1e-30f) << static_cast<int>(kind);
      }
    }
  });
}

TEST(Gated, RefusesDifferentShapes) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value gate = tape.constant(Tensor::zeros(*device, DType::f32, {2, 3}));
  const Value up = tape.constant(Tensor::zeros(*device, DType::f32, {2, 4}));
  EXPECT_THROW(swiglu(tape, gate, up), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels::testing
