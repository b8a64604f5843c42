// A run on several ranks is the run of one rank, shared: its losses, its checkpoints, its end.
#include <signal.h>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

class Ranks : public EndToEnd {
 protected:
  std::vector<std::string> arguments(const std::string& out, int ranks, std::vector<std::string> settings = {},
                                     bool resume = false) const {
    std::vector<std::string> all = train_arguments(out, settings, resume);
    all.insert(all.end(), {"--ranks", std::to_string(ranks)});
    return all;
  }
  void train_on(int ranks, const std::string& out, const std::vector<std::string>& settings = {},
                bool resume = false) const {
    const Outcome outcome = troupe(arguments(out, ranks, settings, resume));
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  }
  // f32: sums in another order differ in the seventh digit, and 20 steps amplify that a little.
  void expect_same_losses(const std::string& one, const std::string& other) const {
    for (const char* member : {"loss", "grad_norm", "validation_loss"}) {
      const std::vector<std::string> a = metric(one, member), b = metric(other, member);
      ASSERT_EQ(a.size(), b.size()) << member;
      for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(std::stod(a[i]), std::stod(b[i]), 1e-4) << member << i;
    }
  }
};

TEST_F(Ranks, AsThreadsTakeTheStepsOfOneRank) {
  train_on(1, "one", {"train.validate_every=5"});
  train_on(2, "two", {"train.validate_every=5"});
  train_on(4, "four", {"train.validate_every=5", "numerics.compute=f32"});
  expect_same_losses("one", "two");
  expect_same_losses("one", "four");
  EXPECT_EQ(metric("two", "loss").size(), 20u);
  EXPECT_THAT(read("two/run.json"), HasSubstr("2 ranks: data 2"));
}

TEST_F(Ranks, TheDataAxisOfTheConfigIsTheNumberOfRanks) {
  train_well("asked", {"parallel.data=2"});
  train_on(2, "told");
  EXPECT_EQ(metric("asked", "loss"), metric("told", "loss"));
  EXPECT_EQ(tensors("asked", 20), tensors("told", 20));
}

TEST_F(Ranks, ARunGoesOnOnAnotherNumberOfRanks) {
  train_on(1, "once");
  train_on(2, "changing", {"train.steps=10"});
  train_on(4, "changing", {"train.steps=20"}, true);
  expect_same_losses("once", "changing");
}

TEST_F(Ranks, TwiceTenStepsOnTwoRanksAreTwentyToTheBit) {
  train_on(2, "once");
  train_on(2, "twice", {"train.steps=10"});
  train_on(2, "twice", {"train.steps=20"}, true);
  EXPECT_EQ(metric("once", "loss"), metric("twice", "loss"));
  EXPECT_EQ(tensors("once", 20), tensors("twice", 20));
}

TEST_F(Ranks, ASignalStopsAllOfThemAfterTheSameStep) {
  RunOptions options;
  options.folder = folder();
  RunningProgram program(arguments("out", 4, {"train.steps=1000000"}), options);
  EXPECT_TRUE(program.wait_until([&] { return exists("out/metrics.jsonl") && metric("out", "loss").size() >= 2; }));
  program.send(SIGTERM);
  const Outcome outcome = program.wait();
  const auto steps = static_cast<int>(metric("out", "loss").size());
  expect_failure(outcome, 75, {"state saved in " + checkpoint("out", steps), "--resume"});
}

TEST_F(Ranks, AReportSaysWhatEveryRankDoesAndTheRunGoesOn) {
  RunOptions options;
  options.folder = folder();
  RunningProgram program(arguments("out", 2, {"train.steps=1000000"}), options);
  EXPECT_TRUE(program.wait_until([&] { return exists("out/metrics.jsonl") && metric("out", "loss").size() >= 2; }));
  program.send(SIGQUIT);
  EXPECT_TRUE(program.wait_for_output("troupe: end of report"));
  for (const char* rank : {"rank 0", "rank 1"})
    EXPECT_THAT(program.err(), testing::ContainsRegex(std::string(rank) + "\n  .* for [0-9.]+ s"));
  EXPECT_THAT(program.err(), HasSubstr("HeadActor::run waits for answer of"));
  const size_t before = metric("out", "loss").size();
  EXPECT_TRUE(program.wait_until([&] { return metric("out", "loss").size() >= before + 2; }));
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().exit_code, 75);
}

TEST_F(Ranks, TwoRunsInOneFolderAreRefused) {
  RunOptions options;
  options.folder = folder();
  RunningProgram program(train_arguments("out", {"train.steps=1000000"}), options);
  EXPECT_TRUE(program.wait_until([&] { return exists("out/metrics.jsonl"); }));
  expect_failure(train("out", {}, true), 2, {"--out out", "another run trains in it", "process"});
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().exit_code, 75);
}

}  // namespace
}  // namespace troupe::e2e
