#include "actors/train/run_setup.h"

#include "actors/train/training_rank.h"
#include "tests/unit/train/run_test.h"

namespace troupe::train {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class RunSetupTest : public RunTest {
 protected:
  // A checkpoint as a run of that config leaves it.
  checkpoint::Checkpoint saved(const std::string& text) {
    const auto of = setup(text);
    const auto device = kernels::make_cpu_device(1);
    const auto alone = parallel::make_self_communicator();
    Keeper publisher;
    const auto rank = TrainingRank::create(assignment(text, *of), of, *device, *alone, files_, clock_).value();
    (void)rank->run({1, 1}, publisher).value();
    checkpoint::CheckpointStore store(files_, path("out/checkpoints"));
    return checkpoint::Checkpoint::open(store.publish(publisher.one).value()).value();
  }
  std::string changed(const std::string& from, const std::string& to) const {
    std::string text = config();
    const size_t at = text.find(from);
    TROUPE_CHECK(at != std::string::npos, "{}", from);
    return text.replace(at, from.size(), to);
  }

 private:
  struct Keeper : RankObserver {
    void stepped(const MetricsLine&) override {}
    void staged(const StagedCheckpoint& staged) override { one = staged; }
    StagedCheckpoint one;
  };
  const SteadyClock clock_;
};

TEST_F(RunSetupTest, AResumeOfTheSameRunHasNothingToWarnOf) {
  const auto checkpoint = saved(config());
  EXPECT_EQ(setup(config())->differences_from(checkpoint), "");
  EXPECT_EQ(
      setup(config("learning_rate = 0.5\nvalidate_every = 2") + "[metrics]\nevery = 3\n")->differences_from(checkpoint),
      "");
}

TEST_F(RunSetupTest, AResumeThatIsAnotherRunNamesTheKeysThatDiffer) {
  const auto checkpoint = saved(config("seed = 7"));
  EXPECT_THAT(setup(config("seed = 8"))->differences_from(checkpoint),
              AllOf(HasSubstr("train.seed is 7 there, 8 here"), Not(HasSubstr(";"))));
  const std::string shorter =
      setup(changed("sequence_length = 16", "sequence_length = 8\nseed = 7"))->differences_from(checkpoint);
  EXPECT_THAT(shorter, HasSubstr("train.sequence_length is 16 there, 8 here"));
  EXPECT_THAT(setup(changed("context = 16", "context = 16\nnorm_epsilon = 0.5"))->differences_from(checkpoint),
              AllOf(HasSubstr("model.norm_epsilon"), HasSubstr("train.seed")));
}

TEST_F(RunSetupTest, AResumeOnAnotherTextSaysSo) {
  const auto checkpoint = saved(config());
  write("text.txt", std::string(2000, 'z'));
  EXPECT_THAT(setup(config())->differences_from(checkpoint), HasSubstr("the text of data.train is another"));
}

TEST_F(RunSetupTest, AnotherModelOrTokenizerDoesNotFit) {
  const auto checkpoint = saved(config());
  EXPECT_TRUE(setup(config())->check_fits(checkpoint).ok());
  EXPECT_THAT(setup(changed("width = 16", "width = 32"))->check_fits(checkpoint).error().message(),
              HasSubstr("model.width is 16 there, 32 here"));
  EXPECT_THAT(setup(changed("\"bytes\"", "\"characters\""))->check_fits(checkpoint).error().message(),
              HasSubstr("another tokenizer"));
}

}  // namespace
}  // namespace troupe::train
