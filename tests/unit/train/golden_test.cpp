// The golden files hold together: sizes match their configuration, and numbers that can be derived
// from other numbers in the file agree with them.
#include "tests/unit/train/golden.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace troupe {
namespace {

std::string golden_path(const std::string& model) {
  return std::string(TROUPE_SOURCE_DIR) + "/tests/unit/train/" + model + ".golden";
}

// Mean cross-entropy of logits [N, V] against labels [N], -100 ignored.
double cross_entropy(const std::vector<double>& logits, const std::vector<double>& labels) {
  const size_t vocabulary = logits.size() / labels.size();
  double sum = 0;
  int64_t counted = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == -100) continue;
    const double* row = logits.data() + i * vocabulary;
    const double most = *std::max_element(row, row + vocabulary);
    double total = 0;
    for (size_t v = 0; v < vocabulary; ++v) total += std::exp(row[v] - most);
    sum += most + std::log(total) - row[static_cast<size_t>(labels[i])];
    ++counted;
  }
  return sum / static_cast<double>(counted);
}

class GoldenFile : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto read = Golden::read(golden_path(GetParam()));
    ASSERT_TRUE(read.ok()) << read.error().message();
    golden = std::move(read).value();
  }
  Golden golden;
};

TEST_P(GoldenFile, ShapesFollowTheConfiguration) {
  const int64_t width = golden.integer("config.width"), vocabulary = golden.integer("config.vocabulary");
  const int64_t head = width / golden.integer("config.heads"), hidden = golden.integer("config.hidden");
  const int64_t kv_width = golden.integer("config.kv_heads") * head;
  auto shape = [&](const std::string& name) { return golden["parameter." + name].shape; };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shape("embedding.weight"), (Shape{vocabulary, width}));
  for (int64_t i = 0; i < golden.integer("config.layers"); ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    EXPECT_EQ(shape(block + "attention.query.weight"), (Shape{width, width}));
    EXPECT_EQ(shape(block + "attention.key.weight"), (Shape{kv_width, width}));
    EXPECT_EQ(shape(block + "attention.value.weight"), (Shape{kv_width, width}));
    EXPECT_EQ(shape(block + "feed_forward.up.weight"), (Shape{hidden, width}));
    EXPECT_EQ(shape(block + "feed_forward.down.weight"), (Shape{width, hidden}));
  }
  EXPECT_NE(golden.has("parameter.head.weight"), golden.integer("config.tied") == 1);
}

TEST_P(GoldenFile, EveryParameterHasItsGradientAndItsErrors) {
  const std::vector<std::string> names = golden.names("parameter.");
  EXPECT_FALSE(names.empty());
  for (const char* kind : {"f32", "f64"}) {
    EXPECT_EQ(golden.names(fmt::format("{}.gradient.", kind)), names);
    for (const std::string& name : names) {
      EXPECT_EQ(golden[fmt::format("{}.gradient.{}", kind, name)].shape, golden["parameter." + name].shape) << name;
    }
  }
  for (const char* mode : {"f32", "bf16_pure", "bf16_autocast"}) {
    EXPECT_EQ(golden.names(fmt::format("{}.error.gradient.", mode)), names);
    EXPECT_EQ(golden.names(fmt::format("{}.typical_error.gradient.", mode)), names);
  }
}

TEST_P(GoldenFile, LossIsTheCrossEntropyOfTheLogits) {
  // Two f64 sums over 7,000 terms in different order.
  EXPECT_NEAR(cross_entropy(golden["f64.logits"].values, golden["labels"].values), golden.scalar("f64.loss"), 1e-12);
  // PyTorch's f32 loss: 2^-24 of a loss near 6, over a few roundings.
  EXPECT_NEAR(cross_entropy(golden["f32.logits"].values, golden["labels"].values), golden.scalar("f32.loss"), 5e-6);
  EXPECT_EQ(golden["f64.adamw_losses"].values.front(), golden.scalar("f64.loss"));
  EXPECT_EQ(golden["batches.f64_losses"].values.front(), golden.scalar("f64.loss"));
}

TEST_P(GoldenFile, GradientNormAndErrorsAreThoseOfTheStoredGradients) {
  const double norm = norm_of_all(golden, "f64.gradient.");
  EXPECT_GT(norm, golden.scalar("optimizer.clip_norm")) << "clipping would go untested";
  // The same f64 sum in another order.
  EXPECT_NEAR(golden["f64.adamw_gradient_norms"].values.front(), norm, 1e-12 * norm);
  for (const std::string& name : golden.names("f32.gradient.")) {
    const double error =
        gradient_error(golden["f32.gradient." + name].values, golden["f64.gradient." + name].values, norm);
    // Sums of squares in another order.
    EXPECT_NEAR(error, golden.scalar("f32.error.gradient." + name), 1e-9 * error) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenFile, testing::Values("gpt2", "llama"),
                         [](const auto& test) { return std::string(test.param); });

class DamagedGolden : public testing::Test {
 protected:
  std::string message_for(const std::string& bytes) {
    const std::string path = testing::TempDir() + "troupe_damaged.golden";
    std::ofstream(path, std::ios::binary) << bytes;
    auto read = Golden::read(path);
    std::filesystem::remove(path);
    return read.ok() ? "" : read.error().message();
  }
};

TEST_F(DamagedGolden, IsNamedByLineOrArray) {
  EXPECT_EQ(message_for("troupe golden 1\nx i32 2\n\n12345678"), "");
  EXPECT_NE(message_for("other\n").find(":1: is not a golden file"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx\n\n").find(":2: wants a name and a dtype"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32 -2\n\n").find("impossible shape"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32 9999999 9999999\n\n").find("impossible shape"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32 2y\n\n12345678").find("impossible shape"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i64 1\n\n12345678").find("unknown dtype i64"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32\nx i32\n\n12345678").find("there twice"), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32 2\n\n1234567").find("ends inside \"x\""), std::string::npos);
  EXPECT_NE(message_for("troupe golden 1\nx i32 2\n\n123456789").find("after the last array"), std::string::npos);
  EXPECT_FALSE(Golden::read(testing::TempDir() + "no_such.golden").ok());
}

}  // namespace
}  // namespace troupe
