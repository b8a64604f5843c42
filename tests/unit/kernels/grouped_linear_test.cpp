// Products of groups of rows, each with a weight of its own.
#include "kernels/ops/grouped_linear.h"

#include <gtest/gtest.h>

#include "kernels/ops/linear.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

Tensor matrix(const Tensor& stacked, int64_t g) {
  return stacked.slice(g, g + 1).reshape({stacked.dim(1), stacked.dim(2)});
}

TEST(GroupedLinear, MultipliesEachGroupByItsOwnWeight) {
  const auto device = make_cpu_device(2);
  Tape tape(*device, Tape::Mode::no_gradient);
  const Value x = tape.constant(Tensor::from<double>(*device, std::vector<double>{1, 2, 3, 4, 5, 6}, {3, 2}));
  TestLeaf weight("w", Tensor::from<double>(*device, std::vector<double>{1, 0, 9, 9, 10, 100}, {3, 1, 2}));
  EXPECT_EQ(grouped_linear(tape, x, {0, 1, 1, 3}, tape.parameter(weight)).tensor().to_host<double>(),
            (std::vector<double>{1, 430, 650}));
}

TEST(GroupedLinear, GradientsMatchFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const Tensor x = normal_tensor(*device, DType::f64, {6, 3}, 1), w = normal_tensor(*device, DType::f64, {4, 2, 3}, 2);
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 2, 2, 5, 6}, std::vector<int64_t>{0, 0, 6, 6, 6}}) {
    expect_gradients_match(
        *device, [&](Tape& t, auto inputs, auto weights) { return grouped_linear(t, inputs[0], offsets, weights[0]); },
        {x}, {w});
  }
}

// To the bit what `linear` gives on each group's rows, however groups are divided among threads.
TEST(GroupedLinear, IsLinearOnEachGroup) {
  struct Sizes {
    int64_t rows, N, K;  // of a group, about
  };
  for (DType type : {DType::f64, DType::f32, DType::bf16}) {
    for (const Sizes s : {Sizes{1, 1, 1}, {3, 17, 33}, {40, 65, 129}, {300, 130, 260}}) {
      for (int threads : {1, 3}) {
        SCOPED_TRACE(fmt::format("{}, {} rows, {} × {}, {} threads", name_of(type), s.rows, s.N, s.K, threads));
        const auto device = make_cpu_device(threads);
        const int64_t G = s.rows > 100 ? 3 : 17;
        std::vector<int64_t> offsets{0};
        for (int64_t g = 0; g < G; ++g) offsets.push_back(offsets.back() + (g % 3 == 1 ? 0 : s.rows + g % 5));
        const int64_t R = offsets.back();
        const Tensor rows = normal_tensor(*device, type, {R, s.K}, 1),
                     weights = normal_tensor(*device, type, {G, s.N, s.K}, 2);
        const Tensor dy = normal_tensor(*device, type, {R, s.N}, 3);
        TestLeaf all("all", weights);
        all.preset(0.5);
        Tape tape(*device);
        const Value x = tape.input(rows);
        const Value y = grouped_linear(tape, x, offsets, tape.parameter(all));
        tape.backward(std::vector{y}, std::vector{dy});
        for (int64_t g = 0; g < G; ++g) {
          const int64_t begin = offsets[static_cast<size_t>(g)], end = offsets[static_cast<size_t>(g) + 1];
          TestLeaf one("one", matrix(weights, g));
          one.preset(0.5);
          Tape alone(*device);
          const Value part = alone.input(rows.slice(begin, end));
          const Value expected = linear(alone, part, alone.parameter(one));
          const Tensor direction = dy.slice(begin, end);
          alone.backward(std::vector{expected}, std::vector{direction});
          EXPECT_EQ(y.tensor().slice(begin, end).to_host<double>(), expected.tensor().to_host<double>()) << g;
          EXPECT_EQ(tape.gradient(x).slice(begin, end).to_host<double>(), alone.gradient(part).to_host<double>()) << g;
          EXPECT_EQ(matrix(all.accumulated(), g).to_host<double>(), one.accumulated().to_host<double>()) << g;
        }
      }
    }
  }
}

// What is summed with other ranks' stays wide.
TEST(GroupedLinear, ResultsAndGradientsOfInputsMayBeWide) {
  const auto device = make_cpu_device(1);
  const std::vector<int64_t> offsets{0, 3, 5};
  const Tensor rows = normal_tensor(*device, DType::bf16, {5, 33}, 1),
               w = normal_tensor(*device, DType::bf16, {2, 7, 33}, 2);
  const Tensor dy = normal_tensor(*device, DType::bf16, {5, 7}, 3);
  const auto run = [&](const Tensor& x, const Tensor& weight, DType output, Tensor* dx, Tensor* dw) {
    Tape tape(*device);
    TestLeaf leaf("w", weight);
    const Value input = tape.input(x);
    const Value y = grouped_linear(tape, input, offsets, tape.parameter(leaf), output);
    const Tensor direction = dy.to(output);
    tape.backward(std::vector{y}, std::vector{direction});
    *dx = tape.gradient(input);
    *dw = leaf.accumulated();
    return y.tensor();
  };
  Tensor dx, dw, exact_dx, exact_dw;
  const Tensor y = run(rows.to(DType::f32), w, DType::f32, &dx, &dw);
  const Tensor exact = run(rows.to(DType::f64), w.to(DType::f64), DType::f64, &exact_dx, &exact_dw);
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(dx.dtype(), DType::f32);
  const auto expect_close = [](const Tensor& found, const Tensor& right) {
    const std::vector<double> a = found.to_host<double>(), b = right.to_host<double>();
    for (size_t i = 0; i < b.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << i;  // bf16 would be off by 1e-2
  };
  expect_close(y, exact);
  expect_close(dx, exact_dx);
  expect_close(dw, exact_dw);
}

TEST(GroupedLinear, AnEmptyGroupHasAGradientOfZeros) {
  for (DType type : {DType::f64, DType::f32, DType::bf16}) {
    for (int threads : {1, 2}) {
      for (int64_t rows : {0, 5}) {
        const auto device = make_cpu_device(threads);
        const int64_t G = 20;
        std::vector<int64_t> offsets(static_cast<size_t>(G) + 1, rows);
        offsets[0] = 0;
        // Memory that is handed out again holds whatever was in it.
        for (int i = 0; i < 3; ++i) normal_tensor(*device, accumulator_of(type), {G, 3, 7}, 9);
        TestLeaf weight("w", normal_tensor(*device, type, {G, 3, 7}, 2));
        Tape tape(*device);
        const Value x = tape.input(normal_tensor(*device, type, {rows, 7}, 1));
        const Value y = grouped_linear(tape, x, offsets, tape.parameter(weight));
        EXPECT_EQ(y.shape(), (Shape{rows, 3}));
        const Tensor dy = normal_tensor(*device, type, {rows, 3}, 4);
        tape.backward(std::vector{y}, std::vector{dy});
        EXPECT_EQ(weight.accumulated().slice(1, G).to_host<double>(), std::vector<double>((G - 1) * 21, 0.0));
      }
    }
  }
}

TEST(GroupedLinear, RefusesWhatDoesNotFit) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value x = tape.input(Tensor::zeros(*device, DType::f64, {4, 3}));
  TestLeaf weight("w", Tensor::zeros(*device, DType::f64, {2, 5, 3})),
      narrow("n", Tensor::zeros(*device, DType::f64, {2, 5, 4}));
  EXPECT_THROW(grouped_linear(tape, x, {0, 4}, tape.parameter(weight)), CheckFailure);
  EXPECT_THROW(grouped_linear(tape, x, {0, 2, 3}, tape.parameter(weight)), CheckFailure);
  EXPECT_THROW(grouped_linear(tape, x, {0, 5, 4}, tape.parameter(weight)), CheckFailure);
  EXPECT_THROW(grouped_linear(tape, x, {0, 2, 4}, tape.parameter(narrow)), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels::testing
