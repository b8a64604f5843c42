#include "actors/train/metrics.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <limits>

namespace troupe::train {
namespace {

LossHistory history_of(std::string_view text) {
  std::string path = testing::TempDir() + "troupe-metrics-XXXXXX";
  const int descriptor = ::mkstemp(path.data());
  EXPECT_GE(descriptor, 0);
  PosixFileSystem files;
  EXPECT_TRUE(write_file_atomically(files, path, text).ok());
  LossHistory history = read_loss_history(path);
  EXPECT_TRUE(files.remove(path).ok());
  return history;
}

std::vector<std::pair<int64_t, double>> pairs(const std::vector<LossPoint>& points) {
  std::vector<std::pair<int64_t, double>> result;
  for (const LossPoint& p : points) result.emplace_back(p.step, p.loss);
  return result;
}
using Pairs = std::vector<std::pair<int64_t, double>>;

TEST(Metrics, ALineHasEveryFieldInShortestRoundTripForm) {
  MetricsLine line;
  line.step = 7;
  line.loss = 0.1;
  line.tokens = 4096;
  line.tokens_per_second = 1234.5;
  line.step_seconds = 1.0 / 3;
  line.gradient_norm = 2;
  line.learning_rate = 3e-4;
  line.mfu = 0.5;
  line.generation = 2;
  EXPECT_EQ(line.to_json(),
            "{\"step\":7,\"loss\":0.1,\"tokens\":4096,\"tokens_per_second\":1234.5,\"step_seconds\":0.3333333333333333,"
            "\"grad_norm\":2.0,\"learning_rate\":0.0003,\"mfu\":0.5,\"generation\":2}");
  line.validation_loss = 1.5;
  line.validation_bits_per_byte = 2.25;
  EXPECT_TRUE(line.to_json().ends_with("\"generation\":2,\"validation_loss\":1.5,\"validation_bits_per_byte\":2.25}"));
  line.loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(line.to_json().find("\"loss\":null"), std::string::npos);
}

TEST(Metrics, HistoryReadsWhatLinesWrote) {
  MetricsLine first, second;
  first.step = 1;
  first.loss = 5.25;
  second.step = 2;
  second.loss = 4;
  second.validation_loss = 4.5;
  const LossHistory history = history_of(first.to_json() + "\n" + second.to_json() + "\n");
  EXPECT_EQ(pairs(history.training), (Pairs{{1, 5.25}, {2, 4}}));
  EXPECT_EQ(pairs(history.validation), (Pairs{{2, 4.5}}));
}

TEST(Metrics, AStepThatWasReplayedCountsFromItsHighestGeneration) {
  const LossHistory history = history_of(
      "{\"step\":1,\"loss\":9,\"generation\":0}\n"
      "{\"step\":2,\"loss\":8,\"generation\":0,\"validation_loss\":8.5}\n"
      "{\"step\":2,\"loss\":7,\"generation\":1}\n"
      "{\"step\":3,\"loss\":6,\"generation\":1}\n"
      "{\"step\":3,\"loss\":99,\"generation\":0}\n");  // of a writer that should have been dead
  EXPECT_EQ(pairs(history.training), (Pairs{{1, 9}, {2, 7}, {3, 6}}));
  EXPECT_TRUE(history.validation.empty());
}

TEST(Metrics, TornAndForeignLinesArePassedOver) {
  const LossHistory history = history_of(
      "\n{\"step\":1,\"loss\":9,\"gen"
      "\n[1,2]\nnull\n{\"step\":1.5,\"loss\":3}\n{\"step\":1e300,\"loss\":3}\n{\"step\":\"4\",\"loss\":3}\n"
      "{\"step\":5,\"loss\":null}\n{\"loss\":5}\n\xFF\xFE\n{\"step\":6,\"loss\":5}\n{\"step\":7,\"loss\":5");
  EXPECT_EQ(pairs(history.training), (Pairs{{6, 5}}));
}

TEST(Metrics, AMissingFileIsAnEmptyHistory) {
  EXPECT_TRUE(read_loss_history(testing::TempDir() + "no-such-file/metrics.jsonl").training.empty());
  EXPECT_TRUE(history_of("").training.empty());
}

}  // namespace
}  // namespace troupe::train
