// Routers: scores, choice, weights, statistics, and the gradients of weights and of the router's own losses.
#include "kernels/ops/router.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/unit/kernels/gradient_check.h"

namespace troupe::kernels::testing {
namespace {

constexpr RouterScore kScores[] = {RouterScore::softmax, RouterScore::sigmoid};

class RouterTest : public ::testing::Test {
 protected:
  Tensor logits(std::vector<double> values, Shape shape) { return Tensor::from<double>(*device, values, shape); }
  Tensor indices(std::vector<int32_t> values) {
    return Tensor::from<int32_t>(*device, values, {1, static_cast<int64_t>(values.size())});
  }
  std::vector<double> weights(const Tensor& z, const RouterChoice& choice, const RouterOptions& options) {
    Tape tape(*device, Tape::Mode::no_gradient);
    return router_weights(tape, tape.constant(z), choice, options).tensor().to_host<double>();
  }
  std::unique_ptr<Device> device = make_cpu_device(2);
};

TEST_F(RouterTest, ChoosesTheBestAndWeighsThemByTheirScores) {
  // Scores 1/10, 2/10, 3/10, 4/10.
  const Tensor z = logits({0, std::log(2.0), std::log(3.0), std::log(4.0)}, {1, 1, 4});
  RouterOptions options{.per_token = 2};
  const RouterChoice choice = choose_experts(*device, z, options);
  EXPECT_EQ(choice.experts.to_host<int32_t>(), (std::vector<int32_t>{3, 2}));
  std::vector<double> w = weights(z, choice, options);
  EXPECT_NEAR(w[0], 4.0 / 7, 1e-15);
  EXPECT_NEAR(w[1], 3.0 / 7, 1e-15);
  options.normalize = false;
  options.scale = 5;
  w = weights(z, choice, options);
  EXPECT_NEAR(w[0], 2.0, 1e-15);
  EXPECT_NEAR(w[1], 1.5, 1e-15);
  options.score = RouterScore::sigmoid;
  w = weights(z, choose_experts(*device, z, options), options);
  EXPECT_NEAR(w[0], 5 * 0.8, 1e-15);
  EXPECT_NEAR(w[1], 5 * 0.75, 1e-15);
}

TEST_F(RouterTest, OfEqualScoresTheLowerIndexIsFirst) {
  for (RouterScore score : kScores) {
    const Tensor z = logits({1, 2, 2, 1, 2, 0}, {1, 1, 6});
    const RouterChoice choice = choose_experts(*device, z, {.score = score, .per_token = 5});
    EXPECT_EQ(choice.experts.to_host<int32_t>(), (std::vector<int32_t>{1, 2, 4, 0, 3}));
  }
}

TEST_F(RouterTest, TheBiasChoosesButDoesNotWeigh) {
  const Tensor z = logits({0, std::log(2.0), std::log(3.0), std::log(4.0)}, {1, 1, 4});
  const RouterOptions options{.per_token = 1, .normalize = false};
  const Tensor bias = Tensor::from<double>(*device, std::vector<double>{0.31, 0, 0, 0}, {4});
  const RouterChoice choice = choose_experts(*device, z, options, bias);
  EXPECT_EQ(choice.experts.to_host<int32_t>(), (std::vector<int32_t>{0}));
  EXPECT_NEAR(weights(z, choice, options)[0], 0.1, 1e-15);
}

TEST_F(RouterTest, PaddingGoesNowhereAndCountsInNothing) {
  const int64_t n = 3, E = 4;
  const Tensor z = normal_tensor(*device, DType::f64, {1, n, E}, 3);
  const RouterOptions options{.per_token = 2};
  const RouterChoice choice = choose_experts(*device, z, options, {}, indices({0, -1, 1}));
  const std::vector<int32_t> experts = choice.experts.to_host<int32_t>();
  EXPECT_EQ(experts[2], -1);
  EXPECT_EQ(experts[3], -1);
  EXPECT_GE(experts[0], 0);
  const std::vector<double> w = weights(z, choice, options);
  EXPECT_EQ(w[2], 0);
  EXPECT_EQ(w[3], 0);
  const std::vector<double> found = router_statistics(*device, z, choice).to_host<double>();
  EXPECT_EQ(std::accumulate(found.begin(), found.begin() + E, 0.0), 4);
  EXPECT_NEAR(std::accumulate(found.begin() + E, found.begin() + 2 * E, 0.0), 2, 1e-14);
  EXPECT_EQ(found[2 * E], 2);
  // Nor has it a gradient, of weights or of losses.
  Tape tape(*device);
  const Value input = tape.input(z);
  const Value result =
      router_weights(tape, input, choice, options,
                     {.balance = Tensor::from<double>(*device, std::vector<double>{1, 2, 3, 4}, {1, E}), .z_loss = 1});
  const Tensor direction = normal_tensor(*device, DType::f64, {1, n, 2}, 5);
  tape.backward(std::vector{result}, std::vector{direction});
  const std::vector<double> dz = tape.gradient(input).to_host<double>();
  for (int64_t e = 0; e < E; ++e) {
    EXPECT_EQ(dz[static_cast<size_t>(E + e)], 0);
    EXPECT_NE(dz[static_cast<size_t>(e)], 0);
  }
}

TEST_F(RouterTest, ExpertsOfOneTokenDifferWhateverTheScoresAre) {
  const double nan = std::nan("");
  const Tensor z = logits({nan, nan, nan, nan}, {1, 1, 4});
  for (RouterScore score : kScores) {
    EXPECT_EQ(choose_experts(*device, z, {.score = score, .per_token = 4}).experts.to_host<int32_t>(),
              (std::vector<int32_t>{0, 1, 2, 3}));
  }
  // All sigmoids are zero in f32: no weight is a NaN.
  const Tensor low = logits({-200, -200, -200}, {1, 1, 3}).to(DType::f32);
  const RouterOptions options{.score = RouterScore::sigmoid, .per_token = 2};
  EXPECT_EQ(weights(low, choose_experts(*device, low, options), options), (std::vector<double>{0, 0}));
}

TEST_F(RouterTest, GivenExpertsAreWeighedByTheirOwnScores) {
  const Tensor z = logits({0, std::log(2.0), std::log(3.0), std::log(4.0)}, {1, 1, 4});
  const RouterOptions options{.per_token = 2};
  const Tensor given = Tensor::from<int32_t>(*device, std::vector<int32_t>{1, 0}, {1, 1, 2});
  const RouterChoice choice = choose_experts(*device, z, options, {}, {}, given);
  EXPECT_NEAR(weights(z, choice, options)[0], 2.0 / 3, 1e-15);
}

TEST_F(RouterTest, StatisticsAreOfEachSequence) {
  const double log2 = std::log(2.0);
  const Tensor z = logits({0, log2, log2, 0, 0, 0}, {3, 1, 2});
  const RouterOptions options{.score = RouterScore::softmax, .per_token = 1};
  const std::vector<double> found =
      router_statistics(*device, z, choose_experts(*device, z, options)).to_host<double>();
  const double squared3 = std::log(3.0) * std::log(3.0), squared2 = log2 * log2;
  const std::vector<double> expected{0,       1, 1.0 / 3,  2.0 / 3, 1, squared3, 1,   0, 2.0 / 3,
                                     1.0 / 3, 1, squared3, 1,       0, 0.5,      0.5, 1, squared2};
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-14) << i;
}

// The choice does not move with the logits: it is made before.
TEST_F(RouterTest, GradientsThroughWeightsMatchFiniteDifferences) {
  for (RouterScore score : kScores) {
    for (bool normalize : {false, true}) {
      for (int64_t k : {1, 3, 7}) {
        const RouterOptions options{.score = score, .per_token = k, .normalize = normalize, .scale = 1.7};
        const Tensor z = normal_tensor(*device, DType::f64, {2, 3, 7}, 4);
        const Tensor experts = choose_experts(*device, z, options).experts;
        expect_gradients_match(*device,
                               [&](Tape& tape, auto x, auto) {
                                 const RouterChoice choice =
                                     choose_experts(*device, x[0].tensor(), options, {}, {}, experts);
                                 return router_weights(tape, x[0], choice, options);
                               },
                               {z});
      }
    }
  }
}

// Σ g[b, e] · s_e / Σ s + z · Σ logsumexp², whose gradients backward adds, is a function of the statistics.
TEST_F(RouterTest, GradientsOfLossesMatchFiniteDifferences) {
  const int64_t B = 2, n = 3, E = 5;
  for (RouterScore score : kScores) {
    const RouterOptions options{.score = score, .per_token = 2};
    const Tensor z = normal_tensor(*device, DType::f64, {B, n, E}, 4);
    const RouterLossGradients losses{.balance = normal_tensor(*device, DType::f64, {B, E}, 8), .z_loss = 0.3};
    const std::vector<double> g = losses.balance.to_host<double>();
    const auto loss = [&](const Tensor& at) {
      const RouterChoice choice = choose_experts(*device, at, options);
      const std::vector<double> found = router_statistics(*device, at, choice).to_host<double>();
      double sum = 0;
      for (size_t b = 0; b < static_cast<size_t>(B); ++b) {
        const double* of = found.data() + b * static_cast<size_t>(2 * E + 2);
        for (size_t e = 0; e < static_cast<size_t>(E); ++e)
          sum += g[b * static_cast<size_t>(E) + e] * of[static_cast<size_t>(E) + e];
        sum += losses.z_loss * of[2 * E + 1];
      }
      return sum;
    };
    Tape tape(*device);
    const Value input = tape.input(z);
    const Value result = router_weights(tape, input, choose_experts(*device, z, options), options, losses);
    const Tensor zero = Tensor::zeros(*device, DType::f64, result.shape());
    tape.backward(std::vector{result}, std::vector{zero});
    const std::vector<double> found = tape.gradient(input).to_host<double>();
    for (size_t i = 0; i < found.size(); ++i) {
      const auto moved = [&](double by) {
        std::vector<double> values = z.to_host<double>();
        values[i] += by;
        return loss(logits(values, z.shape()));
      };
      EXPECT_NEAR(found[i], (moved(1e-5) - moved(-1e-5)) / 2e-5, 1e-8) << i;
    }
  }
}

TEST_F(RouterTest, F32IsCloseToF64AndTheSameOnAnyThreads) {
  for (RouterScore score : kScores) {
    for (int64_t E : {1, 3, 8, 65}) {
      const RouterOptions options{.score = score, .per_token = std::min<int64_t>(E, 4), .scale = 2.5};
      const Tensor z = normal_tensor(*device, DType::f64, {3, 67, E}, 4).to(DType::f32);
      const Tensor experts = choose_experts(*device, z, options).experts;
      const auto run = [&](Device& on, const Tensor& at) {
        Tape tape(on);
        const Value input = tape.input(at);
        const RouterChoice choice = choose_experts(on, at, options, {}, {}, experts);
        const Value result = router_weights(tape, input, choice, options, {.z_loss = 0.01});
        const Tensor direction = normal_tensor(on, at.dtype(), result.shape(), 5);
        tape.backward(std::vector{result}, std::vector{direction});
        std::vector<double> all = result.tensor().to_host<double>();
        for (double d : tape.gradient(input).to_host<double>()) all.push_back(d);
        return all;
      };
      const std::vector<double> found = run(*device, z), exact = run(*device, z.to(DType::f64));
      for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], exact[i], 1e-5) << i;
      const auto other = make_cpu_device(1);
      EXPECT_EQ(run(*other, z), found);
    }
  }
}

TEST_F(RouterTest, RefusesWhatDoesNotFit) {
  const Tensor z = normal_tensor(*device, DType::f64, {1, 2, 3}, 4);
  EXPECT_THROW(choose_experts(*device, z, {.per_token = 4}), CheckFailure);
  EXPECT_THROW(choose_experts(*device, z.to(DType::bf16), {}), CheckFailure);
  EXPECT_THROW(choose_experts(*device, z, {}, Tensor::zeros(*device, DType::f64, {4})), CheckFailure);
}

TEST_F(RouterTest, NoTokensAreNormal) {
  const Tensor z = Tensor::zeros(*device, DType::f64, {2, 0, 3});
  const RouterChoice choice = choose_experts(*device, z, {});
  EXPECT_EQ(weights(z, choice, {}).size(), 0u);
  EXPECT_EQ(router_statistics(*device, z, choice).to_host<double>(), std::vector<double>(16, 0.0));
}

}  // namespace
}  // namespace troupe::kernels::testing
