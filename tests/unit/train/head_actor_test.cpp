// The head on real threads, with ranks that train, an agent that can be told to fail, and a disk that can.
#include "actors/train/head_actor.h"

#include <atomic>
#include <future>
#include <mutex>
#include <new>

#include "actors/train/thread_agent_actor.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"
#include "tests/unit/train/run_test.h"

namespace troupe::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// Does what the real one does, then says what it was told to say.
struct FaultyFiles final : PosixFileSystem {
  Status remove(const std::string& path) override {
    if (!refuse_to_remove.empty() && path.find(refuse_to_remove) != std::string::npos)
      return failed("{}: cannot remove: the disk is tired", path);
    return PosixFileSystem::remove(path);
  }
  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override {
    if (no_memory_for_shards && path.find("/shard-") != std::string::npos) throw std::bad_alloc();
    if (throw_for_shards && path.find("/shard-") != std::string::npos) throw std::runtime_error("the disk is haunted");
    if (encoding && path.find(".tokens") != std::string::npos) encoding();
    return PosixFileSystem::create(path);
  }
  std::string refuse_to_remove;
  bool no_memory_for_shards = false, throw_for_shards = false;
  std::function<void()> encoding;  // somebody begins to
};

class TestAgent final : public AgentActor {
 public:
  struct Told {
    ThreadGangOptions gang;
    std::optional<Error> left = {};  // what end_gang() says at the end
    std::atomic<int>* generations = nullptr;
    std::function<void()> ending = {};  // a gang is about to be ended
  };
  explicit TestAgent(Told told) : told_(std::move(told)) {}
  actor::Task<void> on_start() override {
    agent_ = spawn<ThreadAgentActor>({}, told_.gang);
    co_return;
  }
  actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) override {
    ++*told_.generations;
    co_return co_await agent_.ask<&ThreadAgentActor::start_gang>(std::move(spec), actor::kNever);
  }
  actor::Task<void> kill_gang(std::string reason) override {
    (void)co_await agent_.tell<&ThreadAgentActor::kill_gang>(std::move(reason));
  }
  actor::Task<Result<GangEnd>> end_gang() override {
    if (told_.ending) told_.ending();
    auto end = co_await agent_.ask<&ThreadAgentActor::end_gang>(actor::kNever);
    if (told_.left) co_return Error(*told_.left);
    co_return end;
  }

 private:
  Told told_;
  actor::Ref<ThreadAgentActor> agent_;
};

struct Observer final : RunObserver {
  void warned(const std::string& message) override { warnings.push_back(message); }
  std::vector<std::string> warnings;
};

class HeadTest : public RunTest {
 protected:
  // A run on two ranks, from its start to its end.
  Result<RunEnd> run(const std::string& text, bool resume = false,
                     const std::function<void(actor::Ref<HeadActor>)>& then = {}) {
    generations_ = 0;
    const auto shared = setup(text);
    RunFolder folder = RunFolder::take(faulty_, path("out"), true).value();
    actor::ThreadedNode node({.name = "head"}, 2);
    TestAgent::Told told{.gang = {1, faulty_, clock_, ranks_read_ ? nullptr : shared},
                         .left = left_,
                         .generations = &generations_,
                         .ending = ending_};
    const actor::Ref<AgentActor> agent(node->spawn<TestAgent>({.reentrant = true}, told).endpoint());
    HeadContext context{.setup = *shared,
                        .folder = folder,
                        .observer = seen_,
                        .assignment = {.config = text, .config_path = "test.toml", .out = path("out")},
                        .config_json = "{}",
                        .ranks = 2,
                        .resume = resume,
                        .clock = clock_,
                        .options = options_};
    const auto head = node->spawn<HeadActor>({.loop = 1, .reentrant = true}, std::move(context));
    if (then) then(head);
    auto end = head.ask_blocking<&HeadActor::run>(agent, std::chrono::minutes(1));
    EXPECT_TRUE(node->stop_blocking(std::chrono::seconds(30)).ok());
    return end;
  }
  std::vector<std::string> checkpoints() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path("out/checkpoints")))
      names.push_back(entry.path().filename());
    return names;
  }
  static std::string every(int steps, int keep) {
    return fmt::format("[checkpoint]\nevery = {}\nkeep = {}\n", steps, keep);
  }

  FaultyFiles faulty_;
  const SteadyClock clock_;
  Observer seen_;
  std::optional<Error> left_;
  std::function<void()> ending_;
  HeadOptions options_;
  bool ranks_read_ = false;  // what the head has read, once more
  std::atomic<int> generations_ = 0;
};

TEST_F(HeadTest, TrainsToTheEnd) {
  const auto end = run(config());
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_EQ(end->steps, 10);
  EXPECT_FALSE(end->interrupted);
  EXPECT_THAT(checkpoints(), ElementsAre("step-00000010"));
  EXPECT_THAT(seen_.warnings, IsEmpty());
}

TEST_F(HeadTest, WhatIsLeftOfTheLastGenerationDoesNotHideHowTheRunEnded) {
  left_ = failed("rank 1 (pid 411) is left");
  const auto end = run(config());
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_EQ(end->steps, 10);
  EXPECT_THAT(seen_.warnings, ElementsAre(HasSubstr("rank 1 (pid 411) is left")));
}

TEST_F(HeadTest, HavingNoMemoryIsNotTriedAgain) {
  faulty_.no_memory_for_shards = true;
  const auto end = run(config());
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(), HasSubstr("rank 0: out of memory: use a smaller model"));
  EXPECT_EQ(generations_, 1);
}

TEST_F(HeadTest, ARankThatThrowsIsLostWithWhatItThrew) {
  faulty_.throw_for_shards = true;
  const auto end = run(config());
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(),
              testing::AllOf(HasSubstr("4 generations were lost within"), HasSubstr("the first: "),
                             HasSubstr("rank 0 failed: the disk is haunted")));
  EXPECT_EQ(generations_, 4);
  EXPECT_THAT(seen_.warnings, testing::SizeIs(3));
  EXPECT_THAT(seen_.warnings, testing::Each(HasSubstr("rank 0 failed: the disk is haunted")));
  EXPECT_FALSE(std::filesystem::exists(path("out/checkpoints/step-00000010")));
}

TEST_F(HeadTest, AnOldCheckpointThatStaysIsAWarning) {
  faulty_.refuse_to_remove = "/step-00000005";
  const auto end = run(config() + every(5, 1));
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_THAT(checkpoints(), UnorderedElementsAre("step-00000005", "step-00000010"));
  EXPECT_THAT(seen_.warnings, ElementsAre(HasSubstr("the disk is tired")));
}

TEST_F(HeadTest, AStopBeforeTheFirstPlanLeavesNothing) {
  const auto end = run(config(), false,
                       [](const actor::Ref<HeadActor>& head) { ASSERT_TRUE(head.try_tell<&HeadActor::stop>().ok()); });
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_TRUE(end->interrupted);
  EXPECT_EQ(end->checkpoint, "");
  EXPECT_FALSE(std::filesystem::exists(path("out/checkpoints")));
}

TEST_F(HeadTest, AStopWhileRanksReadTheirDataIsNotWaitedFor) {
  ranks_read_ = true;
  std::once_flag once;
  const auto end = run(config(), false, [&](const actor::Ref<HeadActor>& head) {
    std::filesystem::remove_all(path("out/tokens"));
    faulty_.encoding = [&, head] {
      std::call_once(once, [&] {
        EXPECT_TRUE(head.ask_blocking<&HeadActor::stop>(std::chrono::minutes(1)).ok());
        // After the stop in the same mailboxes.
        const auto ranks = head.ask_blocking<&HeadActor::ranks>(std::chrono::minutes(1)).value();
        for (const actor::Ref<TrainerActor>& rank : ranks)
          EXPECT_TRUE(rank.ask_blocking<&TrainerActor::report>(std::chrono::minutes(1)).ok());
      });
    };
  });
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_TRUE(end->interrupted);
  EXPECT_EQ(end->checkpoint, "");
  EXPECT_EQ(generations_, 1);
  EXPECT_THAT(seen_.warnings, IsEmpty());
  EXPECT_TRUE(std::filesystem::is_empty(path("out/tokens"))) << "the data were encoded to their end";
  EXPECT_FALSE(std::filesystem::exists(path("out/loss.svg")));
}

TEST_F(HeadTest, ARankThatIsTooSlowToPrepareIsNamedAsThatAndNotAsLost) {
  ranks_read_ = true;
  options_.load_deadline = std::chrono::milliseconds(50);
  std::promise<void> given_up;
  const auto released = given_up.get_future().share();
  ending_ = [&] { given_up.set_value(); };
  faulty_.encoding = [&] { released.wait(); };
  const auto end = run(config(), false, [&](const auto&) { std::filesystem::remove_all(path("out/tokens")); });
  ASSERT_FALSE(end.ok());
  EXPECT_THAT(end.error().message(), HasSubstr("rank 0 has not opened its data and built its model within"));
  EXPECT_EQ(generations_, 1) << "another would be as slow";
  EXPECT_THAT(seen_.warnings, IsEmpty());
}

TEST_F(HeadTest, ACheckpointThatCannotBeReadIsNotSetAsideForAnOlderOne) {
  ASSERT_TRUE(run(config() + every(5, 0)).ok());
  const std::string manifest = path("out/checkpoints/step-00000010/manifest.json");
  std::filesystem::rename(manifest, manifest + ".was");
  std::filesystem::create_symlink("manifest.json", manifest);  // nobody can tell what is in it
  const auto end = run(config() + every(5, 0), true);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().kind(), ErrorKind::failed);
  EXPECT_THAT(end.error().message(), HasSubstr("step-00000010/manifest.json"));
  EXPECT_THAT(checkpoints(), UnorderedElementsAre("step-00000005", "step-00000010"));
  EXPECT_THAT(seen_.warnings, IsEmpty());
}

TEST_F(HeadTest, ADamagedCheckpointIsSetAsideForAnOlderOne) {
  ASSERT_TRUE(run(config() + every(5, 0)).ok());
  std::filesystem::remove(path("out/checkpoints/step-00000010/manifest.json"));
  ASSERT_TRUE(run(config() + every(5, 0), true).ok());
  EXPECT_THAT(checkpoints(), UnorderedElementsAre("step-00000005", "damaged-step-00000010", "step-00000010"));
  EXPECT_THAT(seen_.warnings, ElementsAre(HasSubstr("trying the one before it")));
}

}  // namespace
}  // namespace troupe::train
