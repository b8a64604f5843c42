// Finite differences in f64 for any function of the tape, and the simplest leaf. The central difference of
// step h has an error of h²·f'''/6 + 1e-16·|f|/h: with h = 1e-5 about 1e-10, so 1e-7 leaves room for curvature.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/autograd/tape.h"
#include "kernels/ops/kernels.h"

namespace troupe::kernels::testing {

// A parameter that owns its value and its accumulator, and counts what the tape does to it.
class TestLeaf final : public Leaf {
 public:
  TestLeaf(std::string name, Tensor value, bool trainable = true)
      : name_(std::move(name)), value_(std::move(value)), trainable_(trainable) {}

  std::string_view name() const override { return name_; }
  bool trainable() const override { return trainable_; }
  const Tensor& value() const override { return value_; }
  GradientTarget gradient() override {
    const bool filled = filled_;
    if (!gradient_.defined()) {
      gradient_ = Tensor::empty(value_.device(), accumulator_of(value_.dtype()), value_.shape());
    }
    filled_ = true;
    return {gradient_, filled};
  }
  void gradient_ready() override { ++ready; }

  void set(Tensor value) { value_ = std::move(value); }
  Tensor accumulated() const { return filled_ ? gradient_ : Tensor(); }
  // Fills the accumulator, as an earlier microbatch would have.
  void preset(double value) {
    const std::vector<double> values(static_cast<size_t>(value_.elements()), value);
    gradient_ = Tensor::from<double>(value_.device(), values, value_.shape()).to(accumulator_of(value_.dtype()));
    filled_ = true;
  }

  int ready = 0;

 private:
  std::string name_;
  Tensor value_;
  Tensor gradient_;
  bool trainable_;
  bool filled_ = false;
};

// Standard normal numbers, the same for the same seed.
inline std::vector<double> normal(int64_t count, uint64_t seed, double scale = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> distribution;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = scale * distribution(engine);
  return values;
}

inline Tensor normal_tensor(Device& device, DType dtype, Shape shape, uint64_t seed, double scale = 1) {
  return Tensor::from<double>(device, normal(shape.elements(), seed, scale), shape).to(dtype);
}

// A function of activations (inputs) and parameters (weights), both given as values on `tape`.
using TapeFunction = std::function<Value(Tape& tape, std::span<const Value> inputs, std::span<const Value> weights)>;

// Checks the gradient of Σ direction · f(inputs, weights) with respect to every element of every f64 input
// and weight. Inputs are copied, so f may destroy its arguments.
inline void expect_gradients_match(Device& device, const TapeFunction& f, const std::vector<Tensor>& inputs,
                                   const std::vector<Tensor>& weights = {}, double tolerance = 1e-7,
                                   double step = 1e-5) {
  std::vector<double> direction;
  const auto evaluate = [&](const std::vector<Tensor>& at_inputs, const std::vector<Tensor>& at_weights) {
    Tape tape(device, Tape::Mode::no_gradient);
    std::vector<TestLeaf> leaves;
    std::vector<Value> x, w;
    leaves.reserve(at_weights.size());
    for (const Tensor& tensor : at_inputs) x.push_back(tape.constant(tensor.to(tensor.dtype())));
    for (const Tensor& tensor : at_weights) w.push_back(tape.parameter(leaves.emplace_back("w", tensor)));
    const std::vector<double> result = f(tape, x, w).tensor().to_host<double>();
    if (direction.empty()) direction = normal(static_cast<int64_t>(result.size()), 77);
    double sum = 0;
    for (size_t i = 0; i < result.size(); ++i) sum += direction[i] * result[i];
    return sum;
  };
  evaluate(inputs, weights);

  Tape tape(device);
  std::vector<TestLeaf> leaves;
  leaves.reserve(weights.size());
  std::vector<Value> x, w;
  for (const Tensor& tensor : inputs) x.push_back(tape.input(tensor.to(tensor.dtype())));
  for (const Tensor& tensor : weights) w.push_back(tape.parameter(leaves.emplace_back("w", tensor)));
  const Value result = f(tape, x, w);
  const Tensor gradient = Tensor::from<double>(device, direction, result.shape());
  tape.backward(std::vector{result}, std::vector{gradient});

  for (size_t which = 0; which < inputs.size() + weights.size(); ++which) {
    const bool is_input = which < inputs.size();
    const size_t index = is_input ? which : which - inputs.size();
    const std::string name = (is_input ? "input " : "weight ") + std::to_string(index);
    const Tensor found = is_input ? tape.gradient(x[index]) : leaves[index].accumulated();
    ASSERT_TRUE(found.defined()) << name << " has no gradient";
    const std::vector<double> analytic = found.to_host<double>();
    std::vector<double> values = (is_input ? inputs : weights)[index].to_host<double>();
    ASSERT_EQ(analytic.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto moved = [&](double by) {
        std::vector<double> changed = values;
        changed[i] += by;
        std::vector<Tensor> at_inputs = inputs, at_weights = weights;
        Tensor& target = (is_input ? at_inputs : at_weights)[index];
        target = Tensor::from<double>(device, changed, target.shape());
        return evaluate(at_inputs, at_weights);
      };
      const double numeric = (moved(step) - moved(-step)) / (2 * step);
      EXPECT_NEAR(analytic[i], numeric, tolerance * std::max(1.0, std::abs(numeric))) << name << ", element " << i;
    }
  }
}

}  // namespace troupe::kernels::testing
