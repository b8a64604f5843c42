#include "parallel/optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace troupe::parallel {
namespace {

// AdamW as its paper writes it, in f64, one element at a time.
struct Reference {
  std::vector<double> value, first, second;

  void step(const std::vector<double>& gradient, int64_t t, double rate, double scale, double decay,
            const OptimizerOptions& o) {
    for (size_t i = 0; i < value.size(); ++i) {
      const double g = gradient[i] * scale;
      first[i] = o.beta1 * first[i] + (1 - o.beta1) * g;
      second[i] = o.beta2 * second[i] + (1 - o.beta2) * g * g;
      const double m = first[i] / (1 - std::pow(o.beta1, static_cast<double>(t)));
      const double v = second[i] / (1 - std::pow(o.beta2, static_cast<double>(t)));
      value[i] = value[i] - rate * decay * value[i] - rate * m / (std::sqrt(v) + o.epsilon);
    }
  }
};

class OptimizerTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    set.add({"matrix", {5, 7}, {}, Initializer::normal(0.5f)});
    set.add({"vector", {7}, {}, Initializer::constant(1), false});
    set.allocate();
    for (Parameter* p : set.all()) p->initialize(3);
  }
  double gradient_norm() {
    set.complete_gradients();
    return std::sqrt(set.squared_gradient_norm());
  }
  void step(Optimizer& optimizer, int64_t number, double rate, double norm) {
    set.complete_gradients();
    for (ParameterBucket* bucket : set.buckets()) {
      optimizer.update(*bucket, number, rate, norm);
      bucket->forget_gradients();
    }
  }
  std::vector<double> give_gradient(Parameter& p, double size) {
    std::vector<double> values(static_cast<size_t>(p.global_elements()));
    for (double& value : values) value = static_cast<float>(size * normal(engine));  // exact in f32 too
    Tensor target = p.gradient().tensor;
    target.copy_from(Tensor::from<double>(*device, values, target.shape()).to(target.dtype()));
    return values;
  }

  std::unique_ptr<kernels::Device> device = kernels::make_cpu_device(2);
  ParameterSet set{*device, Numerics::of(GetParam()), true};
  std::mt19937_64 engine{5};
  std::normal_distribution<double> normal;
};

// f64: a few roundings a step. f32 (and bf16, whose master is f32): ten steps of 1e-2, each rounded to 6e-8 of
// values below 2, and an update that is good to some 1e-6 of itself.
TEST_P(OptimizerTest, AdamWMatchesItsDefinitionWithClippingAndWithoutDecayOfVectors) {
  const double tolerance = GetParam() == DType::f64 ? 1e-14 : 2e-6;
  OptimizerOptions options;
  options.gradient_clip = 1;
  options.weight_decay = 0.3;
  Optimizer optimizer(set, options);
  std::vector<Reference> references;
  for (Parameter* p : set.all()) {
    const std::vector<double> zeros(static_cast<size_t>(p->global_elements()), 0.0);
    references.push_back({p->master().to_host<double>(), zeros, zeros});
  }
  for (int64_t t = 1; t <= 10; ++t) {
    const double size = t % 2 == 0 ? 0.01 : 3;  // clipped on odd steps
    std::vector<std::vector<double>> gradients;
    double squares = 0;
    for (Parameter* p : set.all()) {
      gradients.push_back(give_gradient(*p, size));
      for (double g : gradients.back()) squares += g * g;
    }
    const double norm = gradient_norm();
    EXPECT_NEAR(norm, std::sqrt(squares), 1e-12 * norm);  // summed in f64 from exact values
    const double rate = 1e-2 / static_cast<double>(t);
    step(optimizer, t, rate, norm);
    for (size_t i = 0; i < references.size(); ++i) {
      references[i].step(gradients[i], t, rate, std::min(1.0, 1 / std::sqrt(squares)), i == 0 ? 0.3 : 0, options);
      const auto found = set.all()[i]->master().to_host<double>();
      for (size_t j = 0; j < found.size(); ++j) EXPECT_NEAR(found[j], references[i].value[j], tolerance) << t;
      EXPECT_FALSE(set.all()[i]->has_gradient());
    }
  }
  for (Parameter* p : set.all()) {
    EXPECT_EQ(p->value().to_host<double>(), p->master().to(p->value().dtype()).to_host<double>());
  }
}

TEST_P(OptimizerTest, AParameterWithoutAGradientCountsAsZeroGradient) {
  OptimizerOptions options;
  options.weight_decay = 0;
  Optimizer optimizer(set, options);
  const std::vector<double> before = set.all()[1]->master().to_host<double>();
  give_gradient(*set.all()[0], 1);
  step(optimizer, 1, 0.1, gradient_norm());
  EXPECT_EQ(set.all()[1]->master().to_host<double>(), before);
}

TEST_P(OptimizerTest, WithoutClippingTheNormDoesNotMatter) {
  OptimizerOptions options;
  options.gradient_clip = 0;
  Optimizer optimizer(set, options);
  const std::vector<double> start = set.all()[1]->master().to_host<double>();
  const std::vector<double> gradient = give_gradient(*set.all()[1], 50);
  step(optimizer, 1, 0.25, 1e6);
  const std::vector<double> after = set.all()[1]->master().to_host<double>();
  // The first step of Adam moves each element by the rate in its gradient's direction; f32 rounds to 1e-7.
  for (size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i], start[i] - std::copysign(0.25, gradient[i]), 1e-6);
}

TEST_P(OptimizerTest, TheNormOfAGradientThatIsNotFiniteIsNotFinite) {
  Optimizer optimizer(set, {});
  EXPECT_EQ(gradient_norm(), 0);
  give_gradient(*set.all()[0], 1);
  Tensor target = set.all()[1]->gradient().tensor;
  const std::vector<double> bad(7, std::numeric_limits<double>::quiet_NaN());
  target.copy_from(Tensor::from<double>(*device, bad, target.shape()).to(target.dtype()));
  EXPECT_FALSE(std::isfinite(gradient_norm()));
}

TEST_P(OptimizerTest, SgdMovesAgainstTheClippedGradientAndKeepsNothing) {
  OptimizerOptions options;
  options.kind = OptimizerKind::sgd;
  options.gradient_clip = 2;
  options.weight_decay = 0.5;
  EXPECT_TRUE(options.states().empty());
  Optimizer optimizer(set, options);
  std::vector<std::vector<double>> before, gradients;
  for (Parameter* p : set.all()) {
    before.push_back(p->master().to_host<double>());
    gradients.push_back(give_gradient(*p, 3));
  }
  const double norm = gradient_norm();
  ASSERT_GT(norm, 2);
  step(optimizer, 1, 0.1, norm);
  for (size_t i = 0; i < before.size(); ++i) {
    const std::vector<double> after = set.all()[i]->master().to_host<double>();
    for (size_t j = 0; j < after.size(); ++j) {
      const double kept = before[i][j] * (i == 0 ? 1 - 0.1 * 0.5 : 1);
      EXPECT_NEAR(after[j], kept - 0.1 * 2 / norm * gradients[i][j], GetParam() == DType::f64 ? 1e-15 : 3e-7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, OptimizerTest, testing::Values(DType::f64, DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(kernels::name_of(info.param)); });

}  // namespace
}  // namespace troupe::parallel
