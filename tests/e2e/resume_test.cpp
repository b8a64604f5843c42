// A run that was stopped and went on ends as one that was not: the same bits of every loss and tensor.
#include <signal.h>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

class Resume : public EndToEnd {
 protected:
  void expect_same_run(const std::string& one, const std::string& other, int steps) const {
    for (const char* member : {"loss", "grad_norm", "learning_rate", "tokens"}) {
      EXPECT_EQ(metric(one, member), metric(other, member)) << member;
    }
    EXPECT_EQ(metric(one, "loss").size(), static_cast<size_t>(steps));
    EXPECT_EQ(tensors(one, steps), tensors(other, steps));
  }

  // 20 steps at once, and 10 and 10.
  void expect_resume_changes_nothing(std::vector<std::string> settings) {
    train_well("once", settings);
    settings.push_back("train.steps=10");
    train_well("twice", settings);
    settings.back() = "train.steps=20";
    train_well("twice", settings, true);
    expect_same_run("once", "twice", 20);
  }
};

TEST_F(Resume, TwiceTenStepsAreTwentyInF32) { expect_resume_changes_nothing({}); }

TEST_F(Resume, TwiceTenStepsAreTwentyInBf16) { expect_resume_changes_nothing({"numerics.compute=bf16"}); }

TEST_F(Resume, TwiceTenStepsAreTwentyWithDropoutAndGradientAccumulation) {
  expect_resume_changes_nothing({"model.dropout=0.2", "train.micro_batch=1"});
}

TEST_F(Resume, TwiceTenStepsAreTwentyWithAllOfThemAndRecompute) {
  expect_resume_changes_nothing(
      {"numerics.compute=bf16", "model.dropout=0.1", "train.micro_batch=2", "train.recompute=block"});
}

TEST_F(Resume, ARunKilledWithoutWarningEndsAsIfItHadNotBeen) {
  const std::vector<std::string> settings{"train.steps=60", "train.schedule=cosine", "checkpoint.every=5"};
  train_well("undisturbed", settings);
  RunningProgram program(train_arguments("killed", settings), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("killed") >= 8; }));
  program.send(SIGKILL);
  EXPECT_EQ(program.wait().signal, SIGKILL) << "it was over before it could be killed";
  train_well("killed", settings, true);
  expect_same_run("undisturbed", "killed", 60);
  EXPECT_THAT(read("killed/metrics.jsonl"), HasSubstr("\"generation\":1"));
}

TEST_F(Resume, ASignalStopsAfterTheStepAndSaves) {
  for (const auto& [signal, name] : {std::pair{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}}) {
    RunningProgram program(train_arguments(name, {"train.steps=1000000"}), here());
    EXPECT_TRUE(program.wait_until([&] { return lines(name) >= 2; }));
    program.send(signal);
    const Outcome outcome = program.wait();
    const size_t steps = lines(name);
    expect_failure(outcome, 75,
                   {"of 1000000, state saved in " + checkpoint(name, static_cast<int>(steps)), "--resume"});
    EXPECT_THAT(outcome.out, HasSubstr(name));

    const std::string longer = "train.steps=" + std::to_string(steps + 3);
    train_well(name, {longer}, true);
    train_well(std::string(name) + "-undisturbed", {longer});
    expect_same_run(std::string(name) + "-undisturbed", name, static_cast<int>(steps) + 3);
  }
}

TEST_F(Resume, ASignalWhileDataArePreparedIsNotWaitedFor) {
  std::string text;
  while (text.size() < 40'000'000) text += "the rain falls on a green hill, and every river runs down to the sea\n";
  write("long.txt", text);
  for (const char* tokenizer : {"characters", "bytes"}) {
    RunningProgram program(
        train_arguments(tokenizer, {"data.train=long.txt", std::string("data.tokenizer=") + tokenizer}), here());
    EXPECT_TRUE(program.wait_until([&] { return program.catches(SIGTERM); }));
    program.send(SIGTERM);
    const Outcome outcome = program.wait();
    EXPECT_EQ(outcome.exit_code, 75) << describe(outcome);
    EXPECT_FALSE(exists(std::string(tokenizer) + "/checkpoints"));
  }
}

TEST_F(Resume, ASecondInterruptStopsAtOnce) {
  // A first step of 20000 microbatches: once the program computes, it is under way for long.
  RunningProgram program(train_arguments("out", {"train.global_batch=20000", "train.micro_batch=1"}), here());
  EXPECT_TRUE(program.wait_for_output("run        20 steps"));
  const double before = program.cpu_seconds();
  EXPECT_TRUE(program.wait_until([&] { return program.cpu_seconds() > before + 0.1; }));
  program.send(SIGINT);
  program.send(SIGINT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 130) << describe(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("troupe: interrupted again"));
  EXPECT_FALSE(exists("out/checkpoints")) << "it saved";
}

TEST_F(Resume, AnEmptyOutStartsFresh) {
  train_well("fresh", {}, true);
  EXPECT_EQ(metric("fresh", "loss").size(), 20u);
  EXPECT_THAT(read("fresh/metrics.jsonl"), HasSubstr("\"generation\":0"));
}

TEST_F(Resume, AFinishedRunHasNothingToDo) {
  train_well("out");
  const std::string metrics = read("out/metrics.jsonl");
  const Outcome again = train("out", {}, true);
  EXPECT_EQ(again.exit_code, 0) << describe(again);
  EXPECT_THAT(again.out, HasSubstr("resumed    after step 20"));
  EXPECT_THAT(again.out, testing::Not(HasSubstr("loss 0.0000")));
  EXPECT_EQ(read("out/metrics.jsonl"), metrics);
}

TEST_F(Resume, AnotherBatchSizeGoesOnWhereTheDataWereLeft) {
  train_well("out", {"train.steps=2"});
  train_well("out", {"train.steps=4", "train.global_batch=6"}, true);
  EXPECT_THAT(metric("out", "tokens"), testing::ElementsAre("1: 128", "2: 256", "3: 448", "4: 640"));
  EXPECT_THAT(read(checkpoint("out", 4) + "/manifest.json"), HasSubstr("\"sequences\": 20,"));
}

TEST_F(Resume, AFolderInUseIsNotTakenWithoutBeingAsked) {
  train_well("out");
  expect_failure(train("out"), 2, {"out is not empty", "--resume"});
  EXPECT_EQ(metric("out", "loss").size(), 20u);
}

TEST_F(Resume, ARunWhoseDataWereRefusedCanStartInTheSameFolder) {
  expect_failure(train("out", {"data.train=short.txt"}), 2, {"short.txt"});
  write("short.txt", "too short");
  expect_failure(train("out", {"data.train=short.txt"}), 2, {"short.txt"});
  train_well("out");
}

TEST_F(Resume, AnotherModelIsRefusedByTheSizeThatDiffers) {
  train_in_fives("out");
  expect_failure(train("out", {"model.width=48"}, true), 4, {"step-00000020", "model.width is 32 there, 48 here"});
  expect_failure(train("out", {"model.layers=3"}, true), 4, {"model.layers is 2 there, 3 here"});
  expect_failure(train("out", {"model.heads=2"}, true), 4, {"model.heads is 4 there, 2 here"});
  expect_failure(train("out", {"model.norm=layer"}, true), 4, {"model.norm"});
  train_well("out", {"train.steps=22"}, true);
}

TEST_F(Resume, ARunThatGoesOnAsAnotherSaysWhatDiffers) {
  train_well("out", {"train.steps=5"});
  const Outcome outcome = train("out", {"train.seed=8", "train.sequence_length=16"}, true);
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  const std::vector<std::string> said = messages(outcome.err);
  ASSERT_EQ(said.size(), 1u) << describe(outcome);
  EXPECT_THAT(said[0],
              testing::AllOf(testing::StartsWith("troupe: warning: "), HasSubstr("train.seed is 7 there, 8 here"),
                             HasSubstr("train.sequence_length is 32 there, 16 here")));
}

TEST_F(Resume, AnotherTokenizerIsRefused) {
  train_well("out");
  expect_failure(train("out", {"data.tokenizer=characters"}, true), 4, {"step-00000020", "tokenizer", "characters"});
}

}  // namespace
}  // namespace troupe::e2e
