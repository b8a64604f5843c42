// Runs of the program on layouts of every kind: they take the steps of one rank, and go on from each other's
// checkpoints.
#include <signal.h>

#include "tests/e2e/process_runs.h"

namespace troupe::e2e {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

class Layouts : public ProcessRuns {
 protected:
  // One microbatch is one sequence; the model has two layers and four heads.
  static std::vector<std::string> with(std::vector<std::string> settings) {
    settings.insert(settings.end(), {"train.micro_batch=1", "train.validate_every=10"});
    return settings;
  }
};

TEST_F(Layouts, TakeTheStepsOfOneRank) {
  train_on("one", "--ranks", 1, with({}));
  const std::vector<std::vector<std::string>> layouts{
      {"parallel.tensor=4"},
      {"parallel.pipeline=2", "parallel.schedule=gpipe"},
      {"parallel.context=2", "parallel.data=2", "parallel.zero=3"},
      {"parallel.tensor=2", "parallel.pipeline=2", "train.recompute=block"},
      {"parallel.tensor=2", "parallel.context=2", "parallel.zero=1"},
      {"parallel.data=4", "parallel.zero=2"}};
  for (size_t i = 0; i < layouts.size(); ++i) {
    const std::string out = "layout" + std::to_string(i);
    train_well(out, with(layouts[i]));
    expect_same_losses("one", out);
  }
  EXPECT_THAT(read("layout2/run.json"), HasSubstr("4 ranks: data 2 × context 2; ZeRO 3"));
}

TEST_F(Layouts, OfExpertsTakeTheStepsOfOneRank) {
  const std::vector<std::string> experts{"model.experts=4", "model.experts_per_token=2", "model.expert_hidden=16",
                                         "model.shared_experts=1"};
  const auto settings = [&](std::vector<std::string> layout) {
    layout.insert(layout.end(), experts.begin(), experts.end());
    return with(layout);
  };
  train_on("one", "--ranks", 1, settings({}));
  train_well("divided", settings({"parallel.data=2", "parallel.tensor=2", "parallel.expert=4"}));
  train_well("both", settings({"parallel.data=4", "parallel.expert=2", "parallel.expert_tensor=2"}));
  expect_same_losses("one", "divided");
  expect_same_losses("one", "both");
  const std::vector<double> entropies = numbers("both", "expert_load_entropy");
  EXPECT_EQ(entropies.size(), 20u);
  for (double entropy : entropies) {
    EXPECT_GT(entropy, 0);
    EXPECT_LE(entropy, 1);
  }
}

TEST_F(Layouts, GoOnFromEachOthersCheckpoints) {
  train_on("once", "--ranks", 1, with({}));
  train_well("changing", with({"parallel.tensor=2", "parallel.pipeline=2", "train.steps=10"}));
  train_well("changing", with({"parallel.data=2", "parallel.context=2", "parallel.zero=3", "train.steps=15"}), true);
  train_well("changing", with({"train.steps=20"}), true);
  const std::vector<double> once = numbers("once", "loss"), changing = numbers("changing", "loss");
  ASSERT_EQ(once.size(), changing.size());
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], changing[i], 1e-4) << i;
}

TEST_F(Layouts, OfProcessesHaveTheBitsOfThreadsAndOutliveAKill) {
  const std::vector<std::string> settings{"parallel.tensor=2", "parallel.pipeline=2", "train.micro_batch=1",
                                          "train.steps=100",   "checkpoint.every=20", "checkpoint.keep=0"};
  train_on("threads", "--ranks", 4, settings);
  RunningProgram program(arguments("processes", "--processes", 4, settings), here());
  const std::vector<pid_t> ranks = ranks_after(program, "processes", 25);
  ASSERT_EQ(ranks.size(), 4u) << program.err();
  kill(ranks[2], SIGKILL);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex("pid " + std::to_string(ranks[2]) +
                                         "\\) was killed by SIGKILL at step [0-9]+; generation 1 starts on 4 ranks"));
  expect_same_bits("threads", "processes", 100);
}

}  // namespace
}  // namespace troupe::e2e
