#include "actors/train/run_folder.h"

#include "tests/unit/train/run_test.h"

namespace troupe::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RunFolderTest : public RunTest {
 protected:
  RunFolder take(bool resume = true) { return RunFolder::take(files_, path("out"), resume).value(); }
  std::string read(const std::string& name) { return read_file(path("out/" + name)).value(); }
  static MetricsLine line(int64_t step, double loss) {
    MetricsLine made;
    made.step = step;
    made.loss = loss;
    return made;
  }
};

TEST_F(RunFolderTest, EveryStartHasAGenerationOfItsOwn) {
  EXPECT_EQ(take().next_generation().value(), 0);
  {
    RunFolder folder = take();
    EXPECT_EQ(folder.next_generation().value(), 1);
    EXPECT_EQ(folder.next_generation().value(), 2);
    EXPECT_EQ(folder.generation(), 2);
  }
  EXPECT_EQ(take().next_generation().value(), 3);
}

TEST_F(RunFolderTest, AGenerationThatCannotBeReadIsNotTheFirst) {
  for (const char* text : {"", "x\n", "-3\n", "7 \n"}) {
    write("out/generation", text);
    const auto next = take().next_generation();
    ASSERT_FALSE(next.ok()) << text;
    EXPECT_EQ(next.error().kind(), ErrorKind::damaged);
    EXPECT_THAT(next.error().message(), HasSubstr("out/generation"));
  }
  write("out/generation", "41\n");
  EXPECT_EQ(take().next_generation().value(), 42);
}

// As where a file system knows no locks, and the first head was given up too early.
TEST_F(RunFolderTest, WhoseLeaseWasTakenByAnotherCommitsNothingAnyMore) {
  RunFolder first = take();
  ASSERT_TRUE(first.next_generation().ok());
  std::filesystem::remove(path("out/.lock"));
  RunFolder second = take();
  EXPECT_EQ(second.next_generation().value(), 1);

  checkpoint::Manifest header;
  header.step = 10;
  header.generation = 0;
  const auto staged = first.checkpoints().stage(header, {});
  ASSERT_TRUE(staged.ok()) << staged.error().message();
  for (const Error& refused : {first.publish(*staged).error(), first.next_generation().error()}) {
    EXPECT_EQ(refused.kind(), ErrorKind::failed);
    EXPECT_THAT(refused.message(), HasSubstr("another run has begun generation 1"));
  }
  EXPECT_FALSE(std::filesystem::exists(path("out/checkpoints/step-00000010")));
  const std::string saved = second.publish(*staged).value();
  EXPECT_EQ(saved, path("out/checkpoints/step-00000010"));
  EXPECT_THAT(first.set_aside(saved).error().message(), HasSubstr("another run has begun generation 1"));
  EXPECT_TRUE(second.set_aside(saved).ok());
}

TEST_F(RunFolderTest, IsTakenByOneAtATime) {
  const RunFolder first = take();
  const auto second = RunFolder::take(files_, path("out"), true);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::usage);
  EXPECT_THAT(second.error().message(), HasSubstr("another run trains in it"));
}

TEST_F(RunFolderTest, WhatIsNotEmptyIsTakenOnlyWhenAsked) {
  std::filesystem::create_directories(path("out/tokens"));  // of a start whose data were refused
  (void)take(false);
  write("out/metrics.jsonl", "");
  EXPECT_EQ(RunFolder::take(files_, path("out"), false).error().kind(), ErrorKind::usage);
  (void)take(true);
}

TEST_F(RunFolderTest, GoesOnWithTheLossesUpToTheStepThatWasLoaded) {
  {
    RunFolder folder = take();
    ASSERT_TRUE(folder.begin(0).ok());
    EXPECT_EQ(folder.last_loss(), 0);
    for (int64_t step = 1; step <= 4; ++step)
      ASSERT_TRUE(folder.write(line(step, static_cast<double>(step)), step != 2).ok());
  }
  RunFolder folder = take();
  ASSERT_TRUE(folder.begin(3).ok());
  EXPECT_EQ(folder.last_loss(), 3) << "step 4 is taken again";
  ASSERT_TRUE(folder.write(line(4, 0.5), true).ok());
  EXPECT_EQ(folder.last_loss(), 0.5);
  const LossHistory history = read_loss_history(path("out/metrics.jsonl"));
  std::vector<double> losses;
  for (const LossPoint& point : history.training) losses.push_back(point.loss);
  EXPECT_THAT(losses, ElementsAre(1, 3, 0.5)) << "step 2 was not to be written";
}

TEST_F(RunFolderTest, SaysWhatTheRunIs) {
  RunFolder folder = take();
  ASSERT_TRUE(folder.next_generation().ok());
  const auto of = setup(config());
  ASSERT_TRUE(folder.write_run_json(*of, {"nano.toml", "CPU", "2 ranks: data 2", 1234}, "{\"train\": 1}").ok());
  for (const char* part :
       {"\"generation\": 0", "\"layout\": \"2 ranks: data 2\"", "\"parameters\": 1234", "\"train\": 1"})
    EXPECT_THAT(read("run.json"), HasSubstr(part));
}

}  // namespace
}  // namespace troupe::train
