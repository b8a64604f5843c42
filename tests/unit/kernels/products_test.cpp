// The tape's products: linear and matmul, against finite differences and against each other.
#include <gtest/gtest.h>

#include "kernels/ops/linear.h"
#include "kernels/ops/matmul.h"
#include "tests/unit/kernels/gradient_check.h"

namespace troupe::kernels {
namespace {

using testing::expect_gradients_match;
using testing::normal_tensor;
using testing::TestLeaf;

class Products : public ::testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device(2);
  Tensor make(Shape shape, uint64_t seed, DType dtype = DType::f64) {
    return normal_tensor(*device_, dtype, shape, seed);
  }
};

TEST_F(Products, LinearMatchesFiniteDifferences) {
  const auto with_bias = [](Tape& tape, std::span<const Value> x, std::span<const Value> w) {
    return linear(tape, x[0], w[0], w[1]);
  };
  expect_gradients_match(*device_, with_bias, {make({2, 3, 5}, 1)}, {make({7, 5}, 2), make({7}, 3)});
  const auto twice = [](Tape& tape, std::span<const Value> x, std::span<const Value> w) {
    return linear(tape, linear(tape, x[0], w[0]), w[0]);  // a weight that is used twice
  };
  expect_gradients_match(*device_, twice, {make({4, 5}, 4)}, {make({5, 5}, 5)});
}

TEST_F(Products, MatmulMatchesFiniteDifferencesInEveryForm) {
  const auto form = [](MatmulForm f) {
    return [f](Tape& tape, std::span<const Value> x, std::span<const Value>) { return matmul(tape, f, x[0], x[1]); };
  };
  expect_gradients_match(*device_, form(MatmulForm::nt), {make({3, 5}, 1), make({4, 5}, 2)});
  expect_gradients_match(*device_, form(MatmulForm::nn), {make({2, 3, 5}, 3), make({2, 5, 4}, 4)});
  expect_gradients_match(*device_, form(MatmulForm::tn), {make({2, 1, 5, 3}, 5), make({2, 1, 5, 4}, 6)});
}

TEST_F(Products, MatmulOfAValueWithItselfAddsBothGradients) {
  const auto gram = [](Tape& tape, std::span<const Value> x, std::span<const Value>) {
    return matmul(tape, MatmulForm::nt, x[0], x[0]);
  };
  expect_gradients_match(*device_, gram, {make({3, 4}, 1)});
}

TEST_F(Products, MatmulHasTheBitsOfLinear) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Tensor x = make({9, 33}, 1, dtype), w = make({17, 33}, 2, dtype);
    Tape tape(*device_, Tape::Mode::no_gradient);
    TestLeaf leaf("w", w);
    const Value a = linear(tape, tape.constant(x), tape.parameter(leaf));
    const Value b = matmul(tape, MatmulForm::nt, tape.constant(x), tape.constant(w));
    EXPECT_EQ(a.tensor().to_host<double>(), b.tensor().to_host<double>());
  }
}

TEST_F(Products, APackedWeightGivesTheSameBits) {
  class PackedLeaf final : public Leaf {
   public:
    PackedLeaf(Device& device, const Tensor& value)
        : value_(value), packed_(device.kernels().matmul.pack(device, value, MemoryKind::parameters)) {}
    std::string_view name() const override { return "packed"; }
    bool trainable() const override { return false; }
    const Tensor& value() const override { return value_; }
    const PackedMatrix* packed() const override { return &packed_; }
    GradientTarget gradient() override { return {}; }

   private:
    Tensor value_;
    PackedMatrix packed_;
  };
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Tensor w = make({50, 70}, 3, dtype);
    TestLeaf plain("w", w, false);
    PackedLeaf packed(*device_, w);
    for (int64_t rows : {1, 2, 7, 40}) {
      const Tensor x = make({rows, 70}, 4, dtype);
      Tape tape(*device_, Tape::Mode::no_gradient);
      EXPECT_EQ(linear(tape, tape.constant(x), tape.parameter(plain)).tensor().to_host<double>(),
                linear(tape, tape.constant(x), tape.parameter(packed)).tensor().to_host<double>());
    }
  }
}

TEST_F(Products, RefusesShapesThatDoNotFit) {
  Tape tape(*device_);
  TestLeaf weight("w", make({4, 5}, 1)), bias("b", make({3}, 2));
  const Value x = tape.constant(make({2, 6}, 3)), y = tape.constant(make({2, 5}, 4));
  EXPECT_THROW(linear(tape, x, tape.parameter(weight)), CheckFailure);
  EXPECT_THROW(linear(tape, y, tape.parameter(weight), tape.parameter(bias)), CheckFailure);
  EXPECT_THROW(matmul(tape, MatmulForm::nn, x, y), CheckFailure);
  EXPECT_THROW(matmul(tape, MatmulForm::nt, x, y), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels
