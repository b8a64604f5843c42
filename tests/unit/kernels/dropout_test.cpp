#include "kernels/ops/dropout.h"

#include <gtest/gtest.h>

#include "runtime/base/random.h"
#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

const DropoutKey kKey{.seed = 7, .step = 11, .layer = 3, .op = 1};

Tensor sequences(Device& device, std::vector<int64_t> ids) {
  const auto count = static_cast<int64_t>(ids.size());
  return Tensor::from<int64_t>(device, ids, {count});
}

Tensor positions(Device& device, int64_t batch, int64_t length) {
  std::vector<int32_t> at;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) at.push_back(static_cast<int32_t>(t));
  }
  return Tensor::from<int32_t>(device, at, {batch, length});
}

TEST(Dropout, DropsTheShareAskedForAndKeepsTheMean) {
  for_each_target([](const char*) {
    const auto device = make_cpu_device(2);
    Tape tape(*device, Tape::Mode::no_gradient);
    const Tensor ones = Tensor::from<float>(*device, std::vector<float>(2 * 100 * 500, 1.0f), {2, 100, 500});
    const std::vector<float> y =
        dropout(tape, tape.constant(ones), 0.25, kKey, sequences(*device, {4, 9}), positions(*device, 2, 100))
            .tensor()
            .to_host<float>();
    int64_t dropped = 0;
    for (float value : y) {
      if (value == 0) ++dropped;
      else EXPECT_FLOAT_EQ(value, 4.0f / 3.0f);
    }
    EXPECT_NEAR(static_cast<double>(dropped) / 1e5, 0.25, 6e-3);  // over four standard deviations of 1.4e-3
  });
}

TEST(Dropout, FastPathsMatchTheReferenceAtOddSizes) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t width : kOddSizes) {
      SCOPED_TRACE(trace_of({type, type}, width));
      const OpFunction f = [](Tape& t, auto x, auto, DType) {
        return dropout(t, x[0], 0.4, kKey, sequences(t.device(), {int64_t{1} << 40, 5}), positions(t.device(), 2, 5));
      };
      expect_matches_f64(f, {{2, 5, width}}, type, {}, type);
    }
  }
}

TEST(Dropout, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  expect_gradients_match(*device,
                         [&](Tape& t, auto x, auto) {
                           return dropout(t, x[0], 0.5, kKey, sequences(*device, {1, 2}), positions(*device, 2, 3));
                         },
                         {normal_tensor(*device, DType::f64, {2, 3, 5}, 1)});
}

TEST(Dropout, ASequenceDrawsTheSameWhereverItStands) {
  const auto device = make_cpu_device(2);
  Tape tape(*device, Tape::Mode::no_gradient);
  const Tensor x = normal_tensor(*device, DType::f32, {2, 4, 100}, 1);
  const auto run = [&](const Tensor& from, std::vector<int64_t> ids) {
    const auto batch = from.dim(0);
    return dropout(tape, tape.constant(from), 0.5, kKey, sequences(*device, ids), positions(*device, batch, 4))
        .tensor()
        .to_host<float>();
  };
  const std::vector<float> both = run(x, {8, 9}), second = run(x.slice(1, 2), {9});
  EXPECT_TRUE(std::equal(second.begin(), second.end(), both.begin() + 400));
  EXPECT_NE(run(x.slice(1, 2), {8}), second);
}

TEST(Dropout, RefusesAProbabilityOfOne) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value x = tape.constant(Tensor::zeros(*device, DType::f32, {1, 1, 4}));
  EXPECT_THROW(dropout(tape, x, 1.0, kKey, sequences(*device, {1}), positions(*device, 1, 1)), CheckFailure);
}

}  // namespace
}  // namespace troupe::kernels::testing
