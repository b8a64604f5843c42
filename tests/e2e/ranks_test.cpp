// A run on several ranks is the run of one rank, shared: its losses, its checkpoints, its end.
#include <signal.h>

#include "tests/e2e/process_runs.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

class Ranks : public RankRuns {};

TEST_F(Ranks, AsThreadsTakeTheStepsOfOneRank) {
  train_on("one", "--ranks", 1, {"train.validate_every=5"});
  train_on("two", "--ranks", 2, {"train.validate_every=5"});
  train_on("four", "--ranks", 4, {"train.validate_every=5", "numerics.compute=f32"});
  expect_same_losses("one", "two");
  expect_same_losses("one", "four");
  EXPECT_EQ(metric("two", "loss").size(), 20u);
  EXPECT_THAT(read("two/run.json"), HasSubstr("2 ranks: data 2"));
}

TEST_F(Ranks, TheDataAxisOfTheConfigIsTheNumberOfRanks) {
  train_well("asked", {"parallel.data=2"});
  train_on("told", "--ranks", 2);
  expect_same_bits("asked", "told", 20);
}

TEST_F(Ranks, ARunGoesOnOnAnotherNumberOfRanks) {
  train_on("once", "--ranks", 1);
  train_on("changing", "--ranks", 2, {"train.steps=10"});
  train_on("changing", "--ranks", 4, {"train.steps=20"}, true);
  expect_same_losses("once", "changing");
}

TEST_F(Ranks, TwiceTenStepsOnTwoRanksAreTwentyToTheBit) {
  train_on("once", "--ranks", 2);
  train_on("twice", "--ranks", 2, {"train.steps=10"});
  train_on("twice", "--ranks", 2, {"train.steps=20"}, true);
  expect_same_bits("once", "twice", 20);
}

TEST_F(Ranks, ASignalStopsAllOfThemAfterTheSameStep) {
  RunningProgram program(arguments("out", "--ranks", 4, {"train.steps=1000000"}), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= 2; }));
  program.send(SIGTERM);
  const Outcome outcome = program.wait();
  const auto steps = static_cast<int>(lines("out"));
  expect_failure(outcome, 75, {"state saved in " + checkpoint("out", steps), "--resume"});
}

TEST_F(Ranks, AReportSaysWhatEveryRankDoesAndTheRunGoesOn) {
  RunningProgram program(arguments("out", "--ranks", 2, {"train.steps=1000000"}), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= 2; }));
  program.send(SIGQUIT);
  EXPECT_TRUE(program.wait_for_output("troupe: end of report"));
  for (const char* rank : {"rank 0", "rank 1"})
    EXPECT_THAT(program.err(), testing::ContainsRegex(std::string(rank) + "\n  .* for [0-9.]+ s"));
  EXPECT_THAT(program.err(), HasSubstr("HeadActor::run waits for answer of"));
  const size_t before = lines("out");
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= before + 2; }));
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().exit_code, 75);
}

#ifndef TROUPE_WITH_MPI
TEST_F(Ranks, AsProcessesAreRefusedAtOnceWithoutMpi) {
  expect_failure(troupe(arguments("out", "--processes", 2)), 3, {"--processes", "without MPI", "--ranks 2"});
  EXPECT_FALSE(exists("out"));
}
#endif

TEST_F(Ranks, TwoRunsInOneFolderAreRefused) {
  RunningProgram program(train_arguments("out", {"train.steps=1000000"}), here());
  EXPECT_TRUE(program.wait_until([&] { return exists("out/metrics.jsonl"); }));
  expect_failure(train("out", {}, true), 2, {"--out out", "another run trains in it", "process"});
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().exit_code, 75);
}

}  // namespace
}  // namespace troupe::e2e
