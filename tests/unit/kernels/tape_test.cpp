#include "kernels/autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/ops/add.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/rms_norm.h"
#include "tests/unit/kernels/gradient_check.h"

namespace troupe::kernels::testing {
namespace {

using ::testing::ElementsAre;

class TapeTest : public ::testing::Test {
 protected:
  Tensor numbers(Shape shape, uint64_t seed, DType type = DType::f32) {
    return normal_tensor(*device_, type, shape, seed);
  }
  Tensor of(std::vector<double> values) {
    const auto count = static_cast<int64_t>(values.size());
    return Tensor::from<double>(*device_, values, {count});
  }
  int64_t held() { return device_->allocator().use().bytes; }

  std::unique_ptr<Device> device_ = make_cpu_device(1);
};

// A residual block: x + gelu(norm(x) · W1ᵀ) · W2ᵀ; the last weight is applied twice.
Value block(const Value& x, std::span<const Value> w) {
  Tape& tape = x.tape();
  const Value h = gelu(tape, linear(tape, rms_norm(tape, x, w[0], 1e-5, x.dtype()), w[1]));
  return x + linear(tape, linear(tape, h, w[2]), w[2]);
}

struct Network {
  explicit Network(Device& on) : device(on) {
    for (int layer = 0; layer < 3; ++layer) {
      const auto seed = static_cast<uint64_t>(10 * layer);
      leaves.push_back(std::make_unique<TestLeaf>("norm", normal_tensor(device, DType::f32, {8}, seed + 1)));
      leaves.push_back(std::make_unique<TestLeaf>("w1", normal_tensor(device, DType::f32, {8, 8}, seed + 2, 0.3)));
      leaves.push_back(std::make_unique<TestLeaf>("w2", normal_tensor(device, DType::f32, {8, 8}, seed + 3, 0.3)));
    }
  }

  // Which blocks are recomputed: none, each, or all three inside one outer block as well.
  enum class Recompute { none, each, nested };

  Value forward(Tape& tape, Value x, Recompute how) {
    const auto one = [this](size_t layer) {
      return [this, layer](Tape& t, std::span<const Value> in) {
        std::vector<Value> w;
        for (size_t i = 0; i < 3; ++i) w.push_back(t.parameter(*leaves[3 * layer + i]));
        return std::vector{block(in[0], w)};
      };
    };
    const auto all = [one, how](Tape& t, std::span<const Value> in) {
      Value h = in[0];
      for (size_t layer = 0; layer < 3; ++layer) {
        h = how == Recompute::none ? one(layer)(t, std::vector{h})[0] : t.recompute(std::vector{h}, one(layer))[0];
      }
      return std::vector{h};
    };
    return how == Recompute::nested ? tape.recompute(std::vector{x}, all)[0] : all(tape, std::vector{x})[0];
  }

  // Output, gradient of the input, gradients of all leaves.
  std::vector<std::vector<float>> run(Recompute how, GradientPart part) {
    for (auto& leaf : leaves) *leaf = TestLeaf(std::string(leaf->name()), leaf->value());
    Tape tape(device);
    const Value x = tape.input(normal_tensor(device, DType::f32, {5, 8}, 100));
    const Value y = forward(tape, x, how);
    tape.backward(std::vector{y}, std::vector{normal_tensor(device, DType::f32, {5, 8}, 101)}, part);
    if (part == GradientPart::inputs) {
      for (auto& leaf : leaves) EXPECT_FALSE(leaf->accumulated().defined());
      tape.backward_weights();
    }
    std::vector<std::vector<float>> result = {y.tensor().to_host<float>(), tape.gradient(x).to_host<float>()};
    for (auto& leaf : leaves) {
      EXPECT_EQ(leaf->ready, 1);
      result.push_back(leaf->accumulated().to_host<float>());
    }
    return result;
  }

  Device& device;
  std::vector<std::unique_ptr<TestLeaf>> leaves;
};

TEST_F(TapeTest, GradientsOfAllUsesAdd) {
  Tape tape(*device_);
  const Value x = tape.input(of({1, 2}));
  const Value y = x + x;        // 2x
  const Value z = (y + x) + y;  // 5x
  tape.backward(std::vector{z, y}, std::vector{of({1, 10}), of({100, 1000})});
  EXPECT_THAT(tape.gradient(x).to_host<double>(), ElementsAre(5 + 200, 50 + 2000));
}

TEST_F(TapeTest, ATensorThatSeveralGradientsShareIsNotWrittenTo) {
  Tape tape(*device_);
  const Value a = tape.input(of({1, 2})), b = tape.input(of({3, 4}));
  const Value c = a + b;                  // hands the same gradient to a and b
  const Value d = relu_squared(tape, a);  // then a's grows
  const Tensor given = of({1, 1});
  tape.backward(std::vector{c, d}, std::vector{given, of({1, 1})});
  EXPECT_THAT(tape.gradient(a).to_host<double>(), ElementsAre(3, 5));
  EXPECT_THAT(tape.gradient(b).to_host<double>(), ElementsAre(1, 1));
  EXPECT_THAT(given.to_host<double>(), ElementsAre(1, 1));
}

TEST_F(TapeTest, ATiedLeafIsReadyOnceAfterItsLastContribution) {
  struct Watched final : Leaf {
    explicit Watched(Tensor v) : inner("tied", std::move(v)) {}
    std::string_view name() const override { return inner.name(); }
    bool trainable() const override { return true; }
    const Tensor& value() const override { return inner.value(); }
    GradientTarget gradient() override { return inner.gradient(); }
    void gradient_ready() override { at_ready.push_back(inner.accumulated().to_host<double>()); }
    TestLeaf inner;
    std::vector<std::vector<double>> at_ready;
  };
  Watched tied(numbers({4, 4}, 1, DType::f64));
  Tape tape(*device_);
  const Value w = tape.parameter(tied);
  const Value x = tape.input(numbers({3, 4}, 2, DType::f64));
  const Value y = linear(tape, linear(tape, linear(tape, x, w), w), w);
  tape.backward(std::vector{y}, std::vector{numbers({3, 4}, 3, DType::f64)});
  ASSERT_EQ(tied.at_ready.size(), 1u);
  EXPECT_EQ(tied.at_ready[0], tied.inner.accumulated().to_host<double>());
}

TEST_F(TapeTest, GradientsMatchFiniteDifferencesThroughAWholeBlock) {
  const std::vector<Tensor> weights = {numbers({6}, 1, DType::f64), numbers({6, 6}, 2, DType::f64),
                                       numbers({6, 6}, 3, DType::f64)};
  expect_gradients_match(
      *device_, [](Tape&, auto x, auto w) { return block(x[0], w); }, {numbers({4, 6}, 4, DType::f64)}, weights, 1e-6);
  const TapeFunction again = [](Tape& t, auto x, auto w) {
    const std::vector<Value> kept(w.begin(), w.end());
    // Parameters of the outer tape are looked up by their leaf: a block runs on a tape of its own.
    return t.recompute(x, [kept](Tape& inner, std::span<const Value> in) {
      std::vector<Value> own;
      for (const Value& value : kept) own.push_back(inner.parameter(*value.leaf()));
      return std::vector{block(in[0], own)};
    })[0];
  };
  expect_gradients_match(*device_, again, {numbers({4, 6}, 4, DType::f64)}, weights, 1e-6);
}

TEST_F(TapeTest, RecomputingAndDeferringWeightsChangeNoBit) {
  Network network(*device_);
  using R = Network::Recompute;
  const auto plain = network.run(R::none, GradientPart::both);
  for (R how : {R::none, R::each, R::nested}) {
    for (GradientPart part : {GradientPart::both, GradientPart::inputs}) {
      EXPECT_EQ(network.run(how, part), plain) << static_cast<int>(how) << ", " << static_cast<int>(part);
    }
  }
}

TEST_F(TapeTest, RecomputeKeepsOnlyTheBlocksInput) {
  Network network(*device_);
  using R = Network::Recompute;
  const auto kept = [&](R how) {
    Tape tape(*device_);
    const Value x = tape.input(numbers({500, 8}, 1));
    const int64_t before = held();
    const Value y = network.forward(tape, x, how);
    return held() - before;
  };
  const int64_t activation = 500 * 8 * 4;
  EXPECT_EQ(kept(R::each), 3 * activation);  // the input of blocks 2 and 3, and the output
  EXPECT_EQ(kept(R::nested), activation);    // the output
  EXPECT_GT(kept(R::none), 12 * activation);
}

TEST_F(TapeTest, ALeafOfARecomputedBlockThatNothingDependsOnIsStillDone) {
  Network network(*device_);
  Tape tape(*device_);
  const Value x = tape.input(numbers({5, 8}, 1));
  const Value unused = network.forward(tape, x, Network::Recompute::each);
  const Value y = x + x;
  tape.backward(std::vector{y}, std::vector{numbers({5, 8}, 2)});
  for (auto& leaf : network.leaves) {
    EXPECT_EQ(leaf->ready, 1);
    EXPECT_FALSE(leaf->accumulated().defined());
  }
}

TEST_F(TapeTest, NoGradientModeKeepsNothing) {
  Network network(*device_);
  const Tensor x = numbers({50, 8}, 1);
  const int64_t before = held();
  Tape tape(*device_, Tape::Mode::no_gradient);
  {
    const Value y = network.forward(tape, tape.constant(x), Network::Recompute::none);
    EXPECT_FALSE(y.needs_gradient());
    EXPECT_EQ(held() - before, 50 * 8 * 4);
  }
  EXPECT_EQ(held(), before);
  EXPECT_THROW(tape.backward({}, {}), CheckFailure);
}

TEST_F(TapeTest, WhatANodeSavedIsFreedOnceItHasRun) {
  const int64_t before = held();
  const int64_t activation = 1000 * 4;
  Tape tape(*device_);
  int64_t at_the_first_node = -1;
  {
    Value x = tape.input(numbers({1000}, 1));
    Value h = tape.record("watch", x.tensor().to(DType::f32), {x}, [&](Backward& back) {
      at_the_first_node = held() - before;
      back.give(0, back.output_gradient());
    });
    for (int i = 0; i < 10; ++i) h = silu(tape, h);
    EXPECT_EQ(held() - before, 12 * activation);  // x, ten saved inputs, the result
    tape.backward(std::vector{h}, std::vector{numbers({1000}, 2)});
    EXPECT_EQ(at_the_first_node, 4 * activation);  // x, the result and its gradient (held here), h's gradient
    EXPECT_EQ(held() - before, 3 * activation);    // the input's gradient
  }
  EXPECT_EQ(held(), before);
}

TEST_F(TapeTest, AnObserverSeesScopedNamesForwardAndBackward) {
  Tape tape(*device_);
  std::vector<std::string> seen;
  tape.observe([&](const std::string& operation, const Tensor& result) {
    EXPECT_TRUE(result.defined());
    seen.push_back(operation);
  });
  const Value x = tape.input(of({1, 2}));
  Value y;
  {
    Tape::Scope outer(tape, "blocks.3");
    const Value h = silu(tape, x);
    Tape::Scope inner(tape, "mlp");
    y = tape.recompute(std::vector{h}, [](Tape& t, std::span<const Value> in) {
      Tape::Scope deep(t, "deep");
      return std::vector{gelu(t, in[0])};
    })[0];
  }
  y = y + x;
  tape.backward(std::vector{y}, std::vector{of({1, 1})});
  EXPECT_THAT(seen,
              ElementsAre("blocks.3.silu", "blocks.3.mlp.deep.gelu", "blocks.3.mlp.recompute", "add", "add backward",
                          "add backward", "blocks.3.mlp.deep.gelu", "blocks.3.mlp.deep.gelu backward",
                          "blocks.3.mlp.recompute backward", "blocks.3.silu backward"));
}

TEST_F(TapeTest, ANodeOfTwoOutputsSeesWhichGradientsCame) {
  for (bool use_second : {false, true}) {
    Tape tape(*device_);
    const Value x = tape.input(of({1, 2, 3, 4}));
    const auto halves =
        tape.record("split", {x.tensor().slice(0, 2), x.tensor().slice(2, 4)}, std::vector{x}, [&](Backward& back) {
          EXPECT_TRUE(back.output_gradient(0).defined());
          EXPECT_EQ(back.output_gradient(1).defined(), use_second);
          Tensor dx = Tensor::zeros(*device_, DType::f64, {4});
          for (int i : {0, 1}) {
            if (!back.output_gradient(i).defined()) continue;
            dx.slice(2 * i, 2 * i + 2).copy_from(back.output_gradient(i));
          }
          back.give(0, dx);
        });
    Value y = relu_squared(tape, halves[0]);
    if (use_second) y = y + relu_squared(tape, halves[1]);
    tape.backward(std::vector{y}, std::vector{of({1, 1})});
    EXPECT_THAT(tape.gradient(x).to_host<double>(), ElementsAre(2, 4, use_second ? 6 : 0, use_second ? 8 : 0));
  }
}

TEST_F(TapeTest, WhatNothingDependsOnHasNoGradientAndItsLeafIsDone) {
  TestLeaf used("used", numbers({4, 4}, 1)), unused("unused", numbers({4, 4}, 2));
  Tape tape(*device_);
  const Value x = tape.input(numbers({2, 4}, 3)), z = tape.input(numbers({2, 4}, 4));
  const Value y = linear(tape, x, tape.parameter(used));
  linear(tape, z, tape.parameter(unused));
  tape.backward(std::vector{y, Value()}, std::vector{numbers({2, 4}, 5), Tensor()});
  EXPECT_TRUE(tape.gradient(x).defined());
  EXPECT_FALSE(tape.gradient(z).defined());
  EXPECT_FALSE(unused.accumulated().defined());
  EXPECT_EQ(used.ready, 1);
  EXPECT_EQ(unused.ready, 1);
}

TEST_F(TapeTest, AFrozenLeafGetsNoGradient) {
  TestLeaf frozen("frozen", numbers({4, 4}, 1), false);
  Tape tape(*device_);
  const Value x = tape.input(numbers({2, 4}, 3));
  const Value y = linear(tape, x, tape.parameter(frozen));
  tape.backward(std::vector{y}, std::vector{numbers({2, 4}, 5)});
  EXPECT_TRUE(tape.gradient(x).defined());
  EXPECT_FALSE(frozen.accumulated().defined());
  EXPECT_EQ(frozen.ready, 0);
}

TEST_F(TapeTest, ReshapePassesGradientsThrough) {
  Tape tape(*device_);
  const Value x = tape.input(numbers({2, 6}, 1, DType::f64));
  const Value y = x.reshape({3, 4});
  EXPECT_TRUE(y.tensor().shares_storage_with(x.tensor()));
  const Tensor gradient = numbers({3, 4}, 2, DType::f64);
  tape.backward(std::vector{y}, std::vector{gradient});
  EXPECT_EQ(tape.gradient(x).shape(), Shape({2, 6}));
  EXPECT_EQ(tape.gradient(x).to_host<double>(), gradient.to_host<double>());
}

TEST_F(TapeTest, RefusesAValueOfAnotherTape) {
  Tape one(*device_), other(*device_);
  const Value x = one.input(of({1}));
  EXPECT_THROW(silu(other, x), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels::testing
