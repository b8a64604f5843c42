#include "actors/train/training_rank.h"

#include <future>
#include <thread>

#include "tests/unit/train/run_test.h"

namespace troupe::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Recorder final : RankObserver {
  void stepped(const MetricsLine& line) override { lines.push_back(line); }
  void staged(const StagedCheckpoint& one) override { checkpoints.push_back(one); }
  std::vector<MetricsLine> lines;
  std::vector<StagedCheckpoint> checkpoints;
};

// What is written waits until it is told to go on.
class HeldFileSystem final : public PosixFileSystem {
 public:
  explicit HeldFileSystem(std::shared_future<void> go_on) : go_on_(std::move(go_on)) {}
  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override {
    go_on_.wait();
    return PosixFileSystem::create(path);
  }

 private:
  std::shared_future<void> go_on_;
};

class TrainingRankTest : public RunTest {
 protected:
  Result<std::unique_ptr<TrainingRank>> make(const RankAssignment& to, std::shared_ptr<const RunSetup> shared) {
    return TrainingRank::create(to, std::move(shared), *device_, *alone_, files_, clock_);
  }

  const std::unique_ptr<kernels::Device> device_ = kernels::make_cpu_device(1);
  const std::unique_ptr<parallel::Communicator> alone_ = parallel::make_self_communicator();
  const SteadyClock clock_;
};

TEST_F(TrainingRankTest, TakesThePlannedStepsAndStagesTheLastOne) {
  const auto shared = setup(config());
  const auto rank = make(assignment(config(), *shared), shared).value();
  Recorder seen;
  const PlanReport report = rank->run({1, 3}, seen).value();
  EXPECT_EQ(report, (PlanReport{{}, 3, false}));
  EXPECT_EQ(seen.lines.size(), 3u);
  ASSERT_EQ(seen.checkpoints.size(), 1u);
  EXPECT_EQ(seen.checkpoints[0].step, 3);
}

TEST_F(TrainingRankTest, ValidatesWhereTheConfigSaysAndAtTheEnd) {
  const std::string text = config("validate_every = 4");
  const auto shared = setup(text);
  const auto rank = make(assignment(text, *shared), shared).value();
  Recorder seen;
  ASSERT_TRUE(rank->run({1, 5}, seen).ok());
  ASSERT_TRUE(rank->run({6, 10}, seen).ok());
  std::vector<int64_t> validated;
  for (const MetricsLine& line : seen.lines) {
    if (line.validation_loss) validated.push_back(line.step);
  }
  EXPECT_THAT(validated, ElementsAre(4, 8, 10));
}

TEST_F(TrainingRankTest, AStopEndsThePlanAfterTheStepAtHandWithTheStateStaged) {
  const auto shared = setup(config());
  const auto rank = make(assignment(config(), *shared), shared).value();
  struct Stopper final : RankObserver {
    explicit Stopper(TrainingRank& of) : rank(of) {}
    void stepped(const MetricsLine& line) override {
      if (line.step == 2) rank.request_stop();
    }
    void staged(const StagedCheckpoint& one) override { steps.push_back(one.step); }
    TrainingRank& rank;
    std::vector<int64_t> steps;
  } stopper(*rank);
  EXPECT_EQ(rank->run({1, 10}, stopper).value(), (PlanReport{{}, 2, true}));
  EXPECT_THAT(stopper.steps, ElementsAre(2));
}

// However long rank 0 takes to write: the others answer, and wait for the next plan where nothing has a deadline.
TEST_F(TrainingRankTest, NobodyWaitsInACollectiveWhileACheckpointIsStaged) {
  const auto shared = setup(config());
  auto groups = parallel::make_thread_communicators(2, "world", {.deadline = std::chrono::seconds(10)});
  std::promise<void> others_have_answered;
  HeldFileSystem held(others_have_answered.get_future().share());
  std::vector<Recorder> seen(2);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      const auto device = kernels::make_cpu_device(1);
      auto rank = TrainingRank::create(assignment(config(), *shared), shared, *device, *groups[r], held, clock_);
      ASSERT_TRUE(rank.ok()) << rank.error().message();
      try {
        EXPECT_EQ((*rank)->run({1, 2}, seen[r]).value(), (PlanReport{{}, 2, false}));
      } catch (const parallel::CommunicationError& error) {
        ADD_FAILURE() << "rank " << r << ": " << error.what();
      }
      if (r == 1) others_have_answered.set_value();
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(seen[0].checkpoints.size(), 1u);
  EXPECT_TRUE(seen[1].checkpoints.empty());
}

TEST_F(TrainingRankTest, AStopThatOneRankHearsOfStopsAllAfterTheSameStep) {
  const auto shared = setup(config());
  auto groups = parallel::make_thread_communicators(2);
  std::vector<PlanReport> reports(2);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      const auto device = kernels::make_cpu_device(1);
      auto rank = TrainingRank::create(assignment(config(), *shared), shared, *device, *groups[r], files_, clock_);
      ASSERT_TRUE(rank.ok()) << rank.error().message();
      Recorder seen;
      ASSERT_TRUE((*rank)->run({1, 3}, seen).ok());
      if (r == 1) (*rank)->request_stop();
      reports[r] = (*rank)->run({4, 10}, seen).value();
    });
  }
  for (auto& thread : threads) thread.join();
  for (const PlanReport& report : reports) EXPECT_EQ(report, (PlanReport{{}, 3, true}));
}

TEST_F(TrainingRankTest, ReadsTheSetupThatItIsNotGiven) {
  const auto shared = setup(config());
  const auto rank = make(assignment(config(), *shared), nullptr);
  ASSERT_TRUE(rank.ok()) << rank.error().message();
  EXPECT_GT((*rank)->parameters(), 0);
}

TEST_F(TrainingRankTest, AStopEndsWhatPreparesForTheFirstStep) {
  const auto shared = setup(config());
  const auto told = assignment(config(), *shared);
  const auto create = [&](const std::shared_ptr<const RunSetup>& given, const StopCheck& stop) {
    return TrainingRank::create(told, given, *device_, *alone_, files_, clock_, nullptr, stop);
  };
  const auto unread = create(nullptr, [] { return true; });
  ASSERT_FALSE(unread.ok());
  EXPECT_EQ(unread.error().kind(), ErrorKind::interrupted);
  int asked = 0;
  const auto unbuilt = create(shared, [&] { return ++asked > 2; });
  ASSERT_FALSE(unbuilt.ok());
  EXPECT_EQ(unbuilt.error().kind(), ErrorKind::interrupted);
  EXPECT_EQ(asked, 4) << "two parameters were initialised, the others were not";

  const auto rank = create(shared, {}).value();
  Recorder seen;
  ASSERT_TRUE(rank->run({1, 1}, seen).ok());
  checkpoint::CheckpointStore store(files_, path("out/checkpoints"));
  const auto folder = store.publish(seen.checkpoints.at(0));
  ASSERT_TRUE(folder.ok()) << folder.error().message();
  EXPECT_EQ(rank->load(*folder, [] { return true; }).error().kind(), ErrorKind::interrupted);
  EXPECT_TRUE(create(shared, {}).value()->load(*folder).ok());
}

TEST_F(TrainingRankTest, RefusesDataThatAreNotTheHeads) {
  const RankAssignment of_head = assignment(config(), *setup(config()));
  write("text.txt", std::string(2000, 'x'));
  const auto rank = make(of_head, nullptr);
  ASSERT_FALSE(rank.ok());
  EXPECT_THAT(rank.error().message(), HasSubstr("the training data changed while the run went on"));
}

TEST_F(TrainingRankTest, RefusesATokenizerThatIsNotTheHeads) {
  std::string text = config();
  text.replace(text.find("\"bytes\""), 7, "\"characters\"");
  const RankAssignment of_head = assignment(text, *setup(text));
  write("text.txt", std::string(1000, 'x') + std::string(1000, 'y'));
  const auto rank = make(of_head, nullptr);
  ASSERT_FALSE(rank.ok());
  EXPECT_THAT(rank.error().message(), HasSubstr("the tokenizer changed while the run went on"));
}

}  // namespace
}  // namespace troupe::train
