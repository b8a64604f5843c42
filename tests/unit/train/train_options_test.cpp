#include "actors/train/train_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "actors/train/run_config.h"

namespace troupe::train {
namespace {

using testing::HasSubstr;

LearningRate schedule(Schedule kind, int64_t warmup = 10) {
  LearningRate rate;
  rate.schedule = kind;
  rate.peak = 0.5;
  rate.final_fraction = 0.2;
  rate.warmup_steps = warmup;
  return rate;
}

TEST(LearningRate, WarmsUpInAStraightLineFromTheFirstStep) {
  for (Schedule kind : {Schedule::constant, Schedule::cosine, Schedule::wsd}) {
    EXPECT_DOUBLE_EQ(schedule(kind).at(1, 100), 0.05);
    EXPECT_DOUBLE_EQ(schedule(kind).at(5, 100), 0.25);
    EXPECT_DOUBLE_EQ(schedule(kind).at(10, 100), 0.5);
    EXPECT_DOUBLE_EQ(schedule(kind).at(10, 10), 0.5);
  }
}

TEST(LearningRate, ConstantStays) {
  EXPECT_EQ(schedule(Schedule::constant).at(11, 100), 0.5);
  EXPECT_EQ(schedule(Schedule::constant, 0).at(1, 100), 0.5);
  EXPECT_EQ(schedule(Schedule::constant).at(100, 100), 0.5);
}

TEST(LearningRate, CosineIsHalfwayInTheMiddleAndLowAtTheLastStep) {
  const LearningRate rate = schedule(Schedule::cosine);
  EXPECT_DOUBLE_EQ(rate.at(55, 100), 0.3);                          // halfway between 0.5 and 0.1
  EXPECT_DOUBLE_EQ(rate.at(40, 100), 0.1 + 0.4 * 0.5 * (1 + 0.5));  // a third of the way: cos 60°
  EXPECT_DOUBLE_EQ(rate.at(100, 100), 0.1);
  EXPECT_DOUBLE_EQ(rate.at(500, 100), 0.1);  // a run that is continued past its end
  EXPECT_DOUBLE_EQ(schedule(Schedule::cosine, 0).at(100, 100), 0.1);
}

TEST(LearningRate, WsdIsStableThenFallsInAStraightLine) {
  const LearningRate rate = schedule(Schedule::wsd);
  EXPECT_EQ(rate.at(80, 100), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(85, 100), 0.4);
  EXPECT_DOUBLE_EQ(rate.at(90, 100), 0.3);
  EXPECT_DOUBLE_EQ(rate.at(100, 100), 0.1);
}

TEST(LearningRate, WsdThatDecaysFromTheStartJumpsNowhere) {
  LearningRate rate = schedule(Schedule::wsd, 50);
  rate.decay_fraction = 1;
  EXPECT_DOUBLE_EQ(rate.at(50, 100), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(75, 100), 0.3);
  EXPECT_DOUBLE_EQ(rate.at(100, 100), 0.1);
  for (int64_t step = 51; step <= 100; ++step) EXPECT_NEAR(rate.at(step - 1, 100) - rate.at(step, 100), 0.008, 1e-12);
  rate.decay_fraction = 0;
  EXPECT_EQ(rate.at(100, 100), 0.5);
}

std::string error_of(std::string_view text) {
  auto config = Config::parse(text, "run.toml");
  if (!config.ok()) return config.error().message();
  const auto run = read_run_config(*config);
  return run.ok() ? "" : run.error().message();
}

TEST(RunConfig, ReadsAllSections) {
  auto config = Config::parse(R"([model]
preset = "nano"
[data]
train = "corpus.txt"
[train]
steps = 5
global_batch = 6
micro_batch = 2
schedule = "wsd"
[checkpoint]
every = 3
[metrics]
every = 2
)",
                              "run.toml");
  ASSERT_TRUE(config.ok());
  const auto run = read_run_config(*config);
  ASSERT_TRUE(run.ok()) << run.error().message();
  EXPECT_EQ(run->train.micro_batch, 2);
  EXPECT_EQ(run->train.learning_rate.schedule, Schedule::wsd);
  EXPECT_EQ(run->checkpoint.every, 3);
  EXPECT_EQ(run->metrics.every, 2);
}

TEST(RunConfig, TheMicrobatchIsARanksWholeShareUnlessGiven) {
  auto config = Config::parse("[model]\npreset = \"nano\"\n[train]\nglobal_batch = 6\n", "run.toml");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(read_train_options(*config).micro_batch, 0);
}

TEST(RunConfig, ErrorsAreOneLineWithFileLineAndWhatWouldBeRight) {
  EXPECT_EQ(error_of("[model]\npreset = \"nano\"\n[train]\nlerning_rate = 1\n"),
            "run.toml:4: unknown key \"train.lerning_rate\"; did you mean \"train.learning_rate\"?");
  EXPECT_THAT(error_of("[trian]\nsteps = 1\n"), HasSubstr("run.toml:1"));
  for (const char* section : {"rollout", "rl", "serve"})  // what is not there yet is not passed over
    EXPECT_THAT(error_of(fmt::format("[{}]\nlerning_rate = 3\n", section)), HasSubstr("run.toml:1"));
  EXPECT_THAT(error_of("[train]\nglobal_batch = 6\nmicro_batch = 4\n"),
              testing::AllOf(HasSubstr("run.toml:3"), HasSubstr("4 does not divide train.global_batch = 6")));
  EXPECT_THAT(error_of("[train]\nsteps = 0\n"), HasSubstr("run.toml:2"));
  EXPECT_THAT(error_of("[train]\nlearning_rate = nan\n"), HasSubstr("run.toml:2"));
  EXPECT_THAT(error_of("[train]\nrecompute = \"all\"\n"), HasSubstr("run.toml:2"));
}

TEST(CompleteModel, FitsTheModelToTokenizerAndSequences) {
  RunConfig run;
  run.model = *parallel::decoder_preset("nano");
  run.train.sequence_length = 64;
  run.model.vocabulary = 0;
  ASSERT_TRUE(complete_model(run, 300).ok());
  EXPECT_EQ(run.model.vocabulary, 300);
  run.model.vocabulary = 512;  // padded
  EXPECT_TRUE(complete_model(run, 300).ok());
  EXPECT_EQ(run.model.vocabulary, 512);
  EXPECT_THAT(complete_model(run, 513).error().message(), HasSubstr("model.vocabulary = 512 is smaller"));
  run.train.sequence_length = 1025;
  EXPECT_THAT(complete_model(run, 300).error().message(), HasSubstr("longer than model.context = 1024"));
  run.train.sequence_length = 1024;
  run.model.width = 250;
  run.model.head_width = 0;
  const Status status = complete_model(run, 300);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind(), ErrorKind::usage);
  EXPECT_THAT(status.error().message(), HasSubstr("nearest valid width: 248 or 252"));
}

}  // namespace
}  // namespace troupe::train
