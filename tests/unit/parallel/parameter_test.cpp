#include "parallel/model/parameter.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops/kernels.h"
#include "parallel/model/parameter_set.h"

namespace troupe::parallel {
namespace {

// A parameter in a bucket of its own, as one rank holds it.
struct Held {
  Held(ParameterSpec spec, const Mesh& mesh, kernels::Device& device, DType compute, bool training)
      : parameter(std::move(spec), mesh, device),
        bucket(Group::replicas, *alone, 0, device, Numerics::of(compute),
               parameter.spec().multiplied ? compute : kernels::accumulator_of(compute), training) {
    bucket.add(parameter);
    bucket.allocate();
  }
  Parameter* operator->() { return &parameter; }

  std::unique_ptr<Communicator> alone = make_self_communicator();
  Parameter parameter;
  ParameterBucket bucket;
};

class ParameterTest : public testing::Test {
 protected:
  std::unique_ptr<Held> held(ParameterSpec spec, const Mesh& mesh = Mesh(), DType compute = DType::f32,
                             bool training = true) {
    return std::make_unique<Held>(std::move(spec), mesh, *device, compute, training);
  }
  std::vector<double> initial(const ParameterSpec& spec, const Mesh& mesh = Mesh(), uint64_t seed = 7,
                              DType compute = DType::f32) {
    const auto h = held(spec, mesh, compute);
    h->parameter.initialize(seed);
    return h->parameter.master().to_host<double>();
  }
  std::unique_ptr<kernels::Device> device = kernels::make_cpu_device(2);
};

TEST_F(ParameterTest, InitialValuesDependOnSeedNameAndGlobalIndexOnly) {
  const ParameterSpec spec{"a.weight", {12, 8}, {}, Initializer::normal(0.5f)};
  EXPECT_EQ(initial(spec), initial(spec));
  EXPECT_NE(initial(spec), initial(spec, Mesh(), 8));
  ParameterSpec other = spec;
  other.name = "b.weight";
  EXPECT_NE(initial(spec), initial(other));
  ParameterSpec reshaped = spec;
  reshaped.shape = {96};
  EXPECT_EQ(initial(spec), initial(reshaped));
}

TEST_F(ParameterTest, ASplitOverRanksGivesSlicesOfTheWhole) {
  const Shape shape{4, 12, 8};
  for (int dimension : {0, 1, 2}) {
    for (Axis axis : {Axis::tensor, Axis::data, Axis::pipeline}) {
      for (int ranks : {2, 4}) {
        const ParameterSpec spec{"w", shape, Placement::split(axis, dimension), Initializer::normal(1)};
        const std::vector<double> whole = initial(spec);
        int64_t inner = 1, outer = 1;
        for (int i = 0; i < 3; ++i) {
          if (i < dimension) outer *= shape[i];
          if (i > dimension) inner *= shape[i];
        }
        const int64_t size = shape[dimension], local = size / ranks;
        MeshSizes sizes;
        (axis == Axis::tensor ? sizes.tensor : axis == Axis::data ? sizes.data : sizes.pipeline) = ranks;
        for (int rank = 0; rank < ranks; ++rank) {
          const std::vector<double> part = initial(spec, Mesh(sizes, rank));
          std::vector<double> expected;
          for (int64_t o = 0; o < outer; ++o) {
            const int64_t begin = (o * size + rank * local) * inner;
            expected.insert(expected.end(), whole.begin() + begin, whole.begin() + begin + local * inner);
          }
          EXPECT_EQ(part, expected) << "dimension " << dimension << ", rank " << rank << " of " << ranks;
        }
      }
    }
  }
}

TEST_F(ParameterTest, ReplicatedOnAxesThatDoNotSplitIt) {
  const ParameterSpec spec{"w", {6, 4}, Placement::split(Axis::tensor, 0), Initializer::normal(1)};
  EXPECT_EQ(initial(spec), initial(spec, Mesh({2, 3, 2, 1}, 7)));
  EXPECT_EQ(initial(spec, Mesh({1, 1, 1, 2}, 1)), initial(spec, Mesh({1, 3, 1, 2}, 3)));
}

TEST_F(ParameterTest, RefusesASplitThatLeavesARemainder) {
  EXPECT_THROW(held({"w", {6, 4}, Placement::split(Axis::tensor, 0), {}}, Mesh({1, 1, 1, 4}, 0)), CheckFailure);
}

// Of n = 2^18 draws the mean deviates by 1/√n = 0.002 σ, the variance by √(2/n) = 0.0028 σ² and the fourth
// moment by √(96/n) = 0.019 σ⁴: five of these are passed once in two million seeds, and the seed is fixed.
TEST_F(ParameterTest, NormalInitialValuesHaveTheMomentsOfTheirDistribution) {
  const std::vector<double> values = initial({"w", {512, 512}, {}, Initializer::normal(0.02f)});
  double mean = 0, second = 0, fourth = 0, product = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double z = values[i] / 0.02;
    mean += z;
    second += z * z;
    fourth += z * z * z * z;
    if (i > 0) product += z * values[i - 1] / 0.02;
  }
  const auto n = static_cast<double>(values.size());
  EXPECT_NEAR(mean / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(second / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96 / n));
  EXPECT_NEAR(product / n, 0, 5 / std::sqrt(n));  // neighbours are independent
}

TEST_F(ParameterTest, EveryDtypeStartsFromTheSameDrawsRoundedOnce) {
  const ParameterSpec spec{"w", {9, 5}, {}, Initializer::normal(0.3f)};
  const std::vector<double> f64 = initial(spec, Mesh(), 7, DType::f64);
  const std::vector<double> f32 = initial(spec, Mesh(), 7, DType::f32);
  for (size_t i = 0; i < f64.size(); ++i) EXPECT_EQ(static_cast<double>(static_cast<float>(f64[i])), f32[i]);
  const auto half_held = held(spec, Mesh(), DType::bf16);
  Parameter& half = half_held->parameter;
  half.initialize(7);
  EXPECT_EQ(half.master().to_host<double>(), f32);
  EXPECT_EQ(half.value().dtype(), DType::bf16);
  const auto inference_held = held(spec, Mesh(), DType::bf16, false);
  Parameter& inference = inference_held->parameter;
  inference.initialize(7);
  EXPECT_EQ(inference.value().to_host<double>(), half.value().to_host<double>());
}

TEST_F(ParameterTest, WhatIsNotMultipliedStaysWide) {
  const auto weight_held = held({"norm.weight", {5}, {}, Initializer::constant(1), false}, Mesh(), DType::bf16);
  Parameter& weight = weight_held->parameter;
  weight.initialize(1);
  EXPECT_EQ(weight.value().dtype(), DType::f32);
  EXPECT_FALSE(weight.bucket().separate_values().defined());
  EXPECT_EQ(weight.value().to_host<double>(), std::vector<double>(5, 1.0));
  EXPECT_FALSE(weight.decays());
  EXPECT_TRUE(held({"w", {2, 2}, {}, {}})->parameter.decays());
}

TEST_F(ParameterTest, AssignSetsMasterAndCopyAndRefusesAnotherShape) {
  const auto p_held = held({"w", {2, 3}, {}, {}}, Mesh(), DType::bf16);
  Parameter& p = p_held->parameter;
  const std::vector<float> values{1, 2, 3, 4, 5, 1.00390625f};  // the last needs more bits than bf16 has
  p.assign(Tensor::from<float>(*device, values, {2, 3}));
  EXPECT_EQ(p.master().to_host<float>(), values);
  EXPECT_EQ(p.value().to_host<float>(), (std::vector<float>{1, 2, 3, 4, 5, 1}));
  EXPECT_THROW(p.assign(Tensor::from<float>(*device, values, {3, 2})), CheckFailure);
  const auto shard_held = held({"w", {2, 3}, Placement::split(Axis::tensor, 0), {}}, Mesh({1, 1, 1, 2}, 1));
  Parameter& shard = shard_held->parameter;
  shard.assign(Tensor::from<float>(*device, values, {2, 3}));
  EXPECT_EQ(shard.master().to_host<float>(), (std::vector<float>{4, 5, 1.00390625f}));
}

TEST_F(ParameterTest, APackedMatrixFollowsItsValue) {
  const auto p_held = held({"w", {16, 8}, {}, Initializer::normal(1)}, Mesh(), DType::f32, false);
  Parameter& p = p_held->parameter;
  p.initialize(1);
  EXPECT_EQ(p.packed(), nullptr);
  p.pack();
  ASSERT_NE(p.packed(), nullptr);
  const auto other_held = held({"other", {16, 8}, {}, Initializer::normal(1)}, Mesh(), DType::f32, false);
  Parameter& other = other_held->parameter;
  other.initialize(2);
  p.assign(other.value());
  other.pack();
  EXPECT_EQ(p.packed()->panels.to_host<float>(), other.packed()->panels.to_host<float>());
  const auto trained_held = held({"w", {16, 8}, {}, {}});
  Parameter& trained = trained_held->parameter;
  EXPECT_THROW(trained.pack(), CheckFailure);
}

TEST_F(ParameterTest, TheFirstContributionOverwritesTheOthersAdd) {
  const auto p_held = held({"w", {3}, {}, {}});
  Parameter& p = p_held->parameter;
  EXPECT_FALSE(p.has_gradient());
  EXPECT_FALSE(p.gradient().accumulate);
  EXPECT_TRUE(p.gradient().accumulate);
  EXPECT_TRUE(p.has_gradient());
  p.forget_gradient();
  EXPECT_FALSE(p.gradient().accumulate);
}

TEST_F(ParameterTest, ASetFindsByNameAndRefusesTwoOfOneName) {
  ParameterSet set(*device, Numerics::of(DType::f32), true);
  set.add({"a", {2, 3}, {}, {}});
  set.add({"b", {4}, {}, {}});
  EXPECT_EQ(set.global_elements(), 10);
  EXPECT_EQ(set.find("b")->name(), "b");
  EXPECT_EQ(set.find("c"), nullptr);
  EXPECT_EQ(set.all().size(), 2u);
  EXPECT_THROW(set.add({"a", {1}, {}, {}}), CheckFailure);
}

}  // namespace
}  // namespace troupe::parallel
