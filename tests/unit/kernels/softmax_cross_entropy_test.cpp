#include "kernels/ops/softmax_cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

Tensor labels_of(Device& device, std::vector<int32_t> labels) {
  const auto count = static_cast<int64_t>(labels.size());
  return Tensor::from<int32_t>(device, labels, {count});
}

std::vector<SoftmaxCrossEntropyOptions> variants(int64_t vocabulary) {
  return {{.vocabulary = vocabulary},
          {.vocabulary = vocabulary, .label_smoothing = 0.1},
          {.vocabulary = vocabulary, .softcap = 5},
          {.vocabulary = vocabulary, .z_loss = 1e-2},
          {.vocabulary = vocabulary, .label_smoothing = 0.2, .softcap = 3, .z_loss = 1e-2}};
}

TEST(SoftmaxCrossEntropy, IsTheNegativeLogProbabilityOfTheLabel) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value logits = tape.input(Tensor::from<double>(*device, std::vector<double>{0, std::log(3.0), 7, 8}, {2, 2}));
  const Value loss = softmax_cross_entropy(tape, logits, labels_of(*device, {1, -100}));
  EXPECT_NEAR(loss.tensor().to_host<double>()[0], -std::log(0.75), 1e-15);
  EXPECT_EQ(loss.tensor().to_host<double>()[1], 0);
  const Tensor weights = Tensor::from<double>(*device, std::vector<double>{2, 5}, {2});
  tape.backward(std::vector{loss}, std::vector{weights});
  const std::vector<double> gradient = tape.gradient(logits).to_host<double>();
  EXPECT_NEAR(gradient[0], 2 * 0.25, 1e-15);
  EXPECT_NEAR(gradient[1], 2 * (0.75 - 1), 1e-15);
  EXPECT_EQ(gradient[2], 0);
  EXPECT_EQ(gradient[3], 0);
}

TEST(SoftmaxCrossEntropy, BackwardMatchesFiniteDifferences) {
  const auto device = make_cpu_device(2);
  const Tensor labels = labels_of(*device, {0, 5, -1, 3});
  for (const SoftmaxCrossEntropyOptions& options : variants(6)) {
    expect_gradients_match(*device,
                           [&](Tape& t, auto x, auto) { return softmax_cross_entropy(t, x[0], labels, options); },
                           {normal_tensor(*device, DType::f64, {4, 8}, 1, 3)});
  }
}

TEST(SoftmaxCrossEntropy, FastPathsMatchTheReferenceAtOddSizes) {
  for (DType type : {DType::f32, DType::bf16}) {
    for (int64_t vocabulary : {2, 3, 7, 16, 17, 63, 65, 129, 1000, 1024, 1025, 3001}) {
      for (const SoftmaxCrossEntropyOptions& options : variants(vocabulary)) {
        SCOPED_TRACE(fmt::format("{}, vocabulary {}, smoothing {}, cap {}", name_of(type), vocabulary,
                                 options.label_smoothing, options.softcap));
        const auto last = static_cast<int32_t>(vocabulary - 1);
        const OpFunction f = [&](Tape& t, auto x, auto, DType) {
          return softmax_cross_entropy(t, x[0], labels_of(t.device(), {0, last, -100, last / 2, last}), options);
        };
        for (int64_t padding : {0, 5}) expect_matches_f64(f, {{5, vocabulary + padding}}, type, {}, type, 4);
      }
    }
  }
}

TEST(SoftmaxCrossEntropy, PaddingNeverCounts) {
  for_each_target([](const char*) {
    const auto device = make_cpu_device(1);
    Tape tape(*device);
    std::vector<float> row(40, 1.0f);
    for (size_t i = 33; i < 40; ++i) row[i] = 1e30f;
    const Value logits = tape.input(Tensor::from<float>(*device, row, {1, 40}));
    const Value loss = softmax_cross_entropy(tape, logits, labels_of(*device, {7}), {.vocabulary = 33});
    EXPECT_NEAR(loss.tensor().to_host<float>()[0], std::log(33.0f), 1e-6f);
    tape.backward(std::vector{loss}, std::vector{Tensor::from<float>(*device, std::vector<float>{1}, {1})});
    const std::vector<float> gradient = tape.gradient(logits).to_host<float>();
    for (size_t i = 33; i < 40; ++i) EXPECT_EQ(gradient[i], 0);
  });
}

TEST(SoftmaxCrossEntropy, TakesHugeAndInfiniteLogits) {
  for_each_target([](const char*) {
    const auto device = make_cpu_device(1);
    Tape tape(*device);
    const float infinite = std::numeric_limits<float>::infinity();
    std::vector<float> row(50, -infinite);
    row[20] = 3e38f;
    row[30] = 3e38f;
    const Value logits = tape.input(Tensor::from<float>(*device, row, {1, 50}));
    // The loss itself, log 2, is far below the spacing of f32 at 3e38: finite, not NaN, is what is asked for.
    EXPECT_TRUE(
        std::isfinite(softmax_cross_entropy(tape, logits, labels_of(*device, {30})).tensor().to_host<float>()[0]));
    row[10] = std::nanf("");
    const Value broken = tape.input(Tensor::from<float>(*device, row, {1, 50}));
    EXPECT_TRUE(std::isnan(softmax_cross_entropy(tape, broken, labels_of(*device, {30})).tensor().to_host<float>()[0]));
  });
}

TEST(SoftmaxCrossEntropy, MakesNoSecondCopyOfTheLogits) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value logits = tape.input(normal_tensor(*device, DType::f32, {64, 1000}, 1));
  device->allocator().reset_peak();
  const int64_t before = device->allocator().use().bytes;
  const Value loss = softmax_cross_entropy(tape, logits, labels_of(*device, std::vector<int32_t>(64, 5)));
  tape.backward(std::vector{loss}, std::vector{Tensor::zeros(*device, DType::f32, {64})});
  EXPECT_LT(device->allocator().use().peak_bytes - before, 64 * 1000 * 4 / 10);
  EXPECT_TRUE(tape.gradient(logits).shares_storage_with(logits.tensor()));
}

TEST(SoftmaxCrossEntropy, NamesALabelOutsideTheVocabulary) {
  const auto device = make_cpu_device(1);
  Tape tape(*device);
  const Value logits = tape.input(Tensor::zeros(*device, DType::f32, {2, 8}));
  try {
    softmax_cross_entropy(tape, logits, labels_of(*device, {0, 7}), {.vocabulary = 7});
    FAIL();
  } catch (const CheckFailure& failure) {
    EXPECT_NE(std::string(failure.what()).find("label 7 in row 1"), std::string::npos) << failure.what();
  }
}

}  // namespace
}  // namespace troupe::kernels::testing
