// Rows into the order of experts, and back.
#include "kernels/ops/permutation.h"

#include <gtest/gtest.h>

#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

class PermutationTest : public ::testing::Test {
 protected:
  Tensor experts_of(const std::vector<int32_t>& values, int64_t k) {
    return Tensor::from<int32_t>(*device, values, {static_cast<int64_t>(values.size()) / k, k});
  }
  // Tokens with two experts each of five, of which the last has none; token 2 is padding.
  ExpertOrder example() { return order_by_expert(*device, experts_of({3, 0, 0, 2, -1, -1, 3, 1, 0, 3}, 2), 5); }
  std::unique_ptr<Device> device = make_cpu_device(2);
};

TEST_F(PermutationTest, RowsStandByExpertAndThenByToken) {
  const ExpertOrder order = example();
  EXPECT_EQ(order.counts, (std::vector<int64_t>{3, 1, 1, 3, 0}));
  EXPECT_EQ(order.tokens.to_host<int32_t>(), (std::vector<int32_t>{0, 1, 4, 3, 1, 0, 3, 4}));
  EXPECT_EQ(order.places.to_host<int32_t>(), (std::vector<int32_t>{5, 0, 1, 4, -1, -1, 6, 3, 2, 7}));
}

TEST_F(PermutationTest, AnExpertThatDoesNotExistIsAnError) {
  EXPECT_THROW(order_by_expert(*device, experts_of({0, 5}, 2), 5), CheckFailure);
  EXPECT_THROW(order_by_expert(*device, experts_of({0, -2}, 2), 5), CheckFailure);
}

TEST_F(PermutationTest, ResultsAreWeighedAndAdded) {
  const ExpertOrder order = order_by_expert(*device, experts_of({1, 0, -1, -1, 0, 1}, 2), 2);
  Tape tape(*device, Tape::Mode::no_gradient);
  const Value x = tape.constant(Tensor::from<double>(*device, std::vector<double>{1, 10, 2, 20, 3, 30}, {3, 2}));
  const Value rows = to_expert_order(tape, x, order);
  EXPECT_EQ(rows.tensor().to_host<double>(), (std::vector<double>{1, 10, 3, 30, 1, 10, 3, 30}));
  const Value w = tape.constant(Tensor::from<double>(*device, std::vector<double>{0.5, 2, 7, 7, 1, -1}, {3, 2}));
  EXPECT_EQ(combine_experts(tape, rows, w, order).tensor().to_host<double>(),
            (std::vector<double>{2.5, 25, 0, 0, 0, 0}));
}

TEST_F(PermutationTest, GradientsMatchFiniteDifferences) {
  const ExpertOrder order = example();
  expect_gradients_match(*device, [&](Tape& t, auto x, auto) { return to_expert_order(t, x[0], order); },
                         {normal_tensor(*device, DType::f64, {5, 3}, 1)});
  expect_gradients_match(
      *device, [&](Tape& t, auto x, auto) { return combine_experts(t, x[0], x[1], order); },
      {normal_tensor(*device, DType::f64, {8, 3}, 1), normal_tensor(*device, DType::f64, {5, 2}, 2)});
  const Tensor index = Tensor::from<int32_t>(*device, std::vector<int32_t>{2, -1, 0, 3}, {4});
  const Tensor inverse = Tensor::from<int32_t>(*device, std::vector<int32_t>{2, -1, 0, 3}, {4});
  expect_gradients_match(*device, [&](Tape& t, auto x, auto) { return permute_rows(t, x[0], index, inverse); },
                         {normal_tensor(*device, DType::f64, {4, 3}, 1)});
}

TEST_F(PermutationTest, IsTheSameInEveryDtypeAtOddSizes) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t width : kOddSizes) {
      SCOPED_TRACE(fmt::format("{}, width {}", name_of(type), width));
      const ExpertOrder order = example();
      const OpFunction through = [&](Tape& t, auto x, auto, DType) {
        const Value w = t.constant(normal_tensor(t.device(), accumulator_of(x[0].dtype()), {5, 2}, 3));
        return combine_experts(t, to_expert_order(t, x[0], order), w, order);
      };
      // Rows in bf16 are exact copies; their gradients are rounded, and rounded again when a token's are added.
      expect_matches_f64(through, {{5, width}}, type, {}, type);
    }
  }
}

TEST_F(PermutationTest, NoTokensAndNoRowsAreNormal) {
  for (const std::vector<int32_t>& experts : {std::vector<int32_t>{}, std::vector<int32_t>{-1, -1, -1, -1}}) {
    const ExpertOrder order = order_by_expert(*device, experts_of(experts, 2), 3);
    const auto tokens = static_cast<int64_t>(experts.size()) / 2;
    EXPECT_EQ(order.counts, (std::vector<int64_t>{0, 0, 0}));
    Tape tape(*device);
    const Value x = tape.input(normal_tensor(*device, DType::f64, {tokens, 4}, 1));
    const Value w = tape.input(normal_tensor(*device, DType::f64, {tokens, 2}, 2));
    const Value rows = to_expert_order(tape, x, order);
    EXPECT_EQ(rows.shape(), (Shape{0, 4}));
    const Value y = combine_experts(tape, rows, w, order);
    EXPECT_EQ(y.tensor().to_host<double>(), std::vector<double>(static_cast<size_t>(tokens * 4), 0.0));
    const Tensor direction = normal_tensor(*device, DType::f64, {tokens, 4}, 3);
    tape.backward(std::vector{y}, std::vector{direction});
    EXPECT_EQ(tape.gradient(x).to_host<double>(), std::vector<double>(static_cast<size_t>(tokens * 4), 0.0));
    EXPECT_EQ(tape.gradient(w).to_host<double>(), std::vector<double>(static_cast<size_t>(tokens * 2), 0.0));
  }
}

}  // namespace
}  // namespace troupe::kernels::testing
