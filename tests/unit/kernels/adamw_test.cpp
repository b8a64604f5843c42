// adamw and the global norm.
#include "kernels/ops/adamw.h"

#include <gtest/gtest.h>

#include "kernels/ops/global_norm.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

struct State {
  Tensor gradient, master, first, second, compute;
};

State start(Device& device, DType type, int64_t count, DType compute) {
  const auto like = [&](uint64_t seed) { return normal_tensor(device, DType::f32, {count}, seed).to(type); };
  return {like(1), like(2), Tensor::zeros(device, type, {count}), Tensor::zeros(device, type, {count}),
          Tensor::empty(device, compute, {count})};
}

void run(State& state, AdamWStep step, int steps) {
  for (int i = 1; i <= steps; ++i) {
    step.step = i;
    adamw(step, state.gradient, state.master, state.first, state.second, state.compute);
  }
}

TEST(AdamW, TakesTheStepOfTheFormula) {
  const auto device = make_cpu_device(1);
  const auto one = [&](double value) { return Tensor::from<double>(*device, std::vector<double>{value}, {1}); };
  Tensor p = one(2), m = one(0.1), v = one(0.3);
  const AdamWStep step{.learning_rate = 0.01,
                       .beta1 = 0.9,
                       .beta2 = 0.99,
                       .epsilon = 0.1,
                       .weight_decay = 0.5,
                       .gradient_scale = 0.5,
                       .step = 3};
  adamw(step, one(4), p, m, v);
  const double em = 0.9 * 0.1 + 0.1 * 2, ev = 0.99 * 0.3 + 0.01 * 4;
  const double corrected = std::sqrt(ev / (1 - std::pow(0.99, 3)));
  EXPECT_NEAR(m.to_host<double>()[0], em, 1e-15);
  EXPECT_NEAR(v.to_host<double>()[0], ev, 1e-15);
  EXPECT_NEAR(p.to_host<double>()[0], 2 * (1 - 0.005) - 0.01 * em / (1 - std::pow(0.9, 3)) / (corrected + 0.1), 1e-15);
}

TEST(AdamW, FastPathMatchesTheReferenceOnAnyThreads) {
  const AdamWStep step{.learning_rate = 1e-2, .weight_decay = 0.1, .gradient_scale = 0.7};
  for (int64_t count : {1, 3, 7, 17, 63, 65, 129, 1000, 50001}) {
    const auto device = make_cpu_device(1);
    State exact = start(*device, DType::f64, count, DType::f64);
    run(exact, step, 5);
    for_each_target([&](const char*) {
      for (DType compute : {DType::f32, DType::bf16}) {
        State found = start(*device, DType::f32, count, compute);
        run(found, step, 5);
        const auto arrays = [](const State& s) {
          return OpResult{{"master", "first moment", "second moment"},
                          {s.master.to_host<double>(), s.first.to_host<double>(), s.second.to_host<double>()}};
        };
        expect_close(arrays(found), arrays(exact), 2e-6);  // five steps of a handful of f32 roundings
        EXPECT_EQ(found.compute.to_host<float>(), found.master.to(compute).to_host<float>());
        const auto three = make_cpu_device(3);
        State again = start(*three, DType::f32, count, compute);
        run(again, step, 5);
        EXPECT_EQ(arrays(found).arrays, arrays(again).arrays);
        State plain = start(*device, DType::f32, count, compute);
        plain.compute = Tensor();
        run(plain, step, 5);
        EXPECT_EQ(arrays(found).arrays, arrays(plain).arrays);
      }
    });
  }
}

TEST(AdamW, RefusesWhatDoesNotFit) {
  const auto device = make_cpu_device(1);
  State state = start(*device, DType::f32, 8, DType::f32);
  state.first = Tensor::zeros(*device, DType::f32, {7});
  EXPECT_THROW(adamw({}, state.gradient, state.master, state.first, state.second), CheckFailure);
}

TEST(GlobalNorm, IsTheRootOfAllSquares) {
  const auto device = make_cpu_device(2);
  const Tensor a = Tensor::from<float>(*device, std::vector<float>{3, 0}, {2});
  const Tensor b = Tensor::from<float>(*device, std::vector<float>{4}, {1});
  EXPECT_DOUBLE_EQ(global_norm(std::vector{a, b}), 5);
  EXPECT_DOUBLE_EQ(clip_scale(5, 1), 0.2);
  EXPECT_DOUBLE_EQ(clip_scale(5, 10), 1);
  EXPECT_DOUBLE_EQ(clip_scale(5, 0), 1);
}

TEST(GlobalNorm, SumsOfSquaresDoNotDependOnThreads) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t count : {0, 1, 7, 17, 1000, 32768, 100003}) {
      const auto one = make_cpu_device(1), three = make_cpu_device(3);
      const Tensor values = normal_tensor(*one, type, {count}, 1), same = normal_tensor(*three, type, {count}, 1);
      const double exact = sum_of_squares(values.to(DType::f64));
      for_each_target([&](const char*) {
        EXPECT_NEAR(sum_of_squares(values), exact, 1e-12 * exact);  // f64 sums of exact squares, another order
        EXPECT_EQ(sum_of_squares(values), sum_of_squares(same));
      });
    }
  }
}

TEST(GlobalNorm, HoldsHugeElementsAndShowsBrokenOnes) {
  const auto device = make_cpu_device(1);
  for_each_target([&](const char*) {
    std::vector<float> values(100, 0.0f);
    values[50] = 3e38f;
    EXPECT_NEAR(std::sqrt(sum_of_squares(Tensor::from<float>(*device, values, {100}))), 3e38, 1e32);
    for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      values[99] = bad;
      EXPECT_FALSE(std::isfinite(sum_of_squares(Tensor::from<float>(*device, values, {100}))));
    }
  });
}

}  // namespace
}  // namespace troupe::kernels::testing
