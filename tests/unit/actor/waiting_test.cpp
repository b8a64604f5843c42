// What handlers wait for besides single answers: several tasks at once, a mesh of ranks, plain threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "runtime/actor/handoff.h"
#include "runtime/actor/mesh_ref.h"
#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class Rank : public Actor {
 public:
  explicit Rank(int number) : number_(number) {}
  Task<Result<int>> times(int factor) {
    const Status slept = co_await sleep(std::chrono::milliseconds(number_));
    if (!slept.ok()) co_return slept.error();
    if (number_ == failing_) co_return failed("rank is unwell");
    co_return number_* factor;
  }
  void set_failing(int number) { failing_ = number; }

 private:
  int number_;
  int failing_ = -1;
};

MeshRef<Rank> mesh(World& world, int size) {
  std::vector<Ref<Rank>> ranks;
  for (int i = 0; i < size; ++i) ranks.push_back(world.node.spawn<Rank>({.name = fmt::format("rank {}", i)}, i));
  return MeshRef<Rank>(std::move(ranks));
}

TEST(MeshRef, AsksAllAtOnceAndTellsAnswersApart) {
  World world;
  const auto ranks = mesh(world, 10);
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto values = co_await ranks.gather<&Rank::times>(3, 1s);
    EXPECT_THAT(*values, ElementsAre(0, 3, 6, 9, 12, 15, 18, 21, 24, 27));
    EXPECT_EQ(self.now(), 9ms);
    EXPECT_EQ((co_await ranks.reduce<&Rank::times>(std::plus<>(), 1, 1s)).value(), 45);
    const auto odd = co_await ranks.slice(1, 5, 2).gather<&Rank::times>(1, 1s);
    EXPECT_THAT(*odd, ElementsAre(1, 3, 5, 7, 9));
  }));
}

TEST(MeshRef, NamesTheRankThatFails) {
  World world;
  const auto ranks = mesh(world, 4);
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    EXPECT_TRUE((co_await ranks.tell<&Rank::set_failing>(2)).ok());
    const auto sum = co_await ranks.reduce<&Rank::times>(std::plus<>(), 1, 1s);
    EXPECT_EQ(sum.error().message(), "rank 2: rank is unwell");
    const auto each = co_await ranks.ask<&Rank::times>(1, 1s);
    EXPECT_TRUE(each[1].ok() && !each[2].ok() && each[3].ok());
    const auto late = co_await ranks.gather<&Rank::times>(1, 1500us);
    EXPECT_THAT(late.error().message(), HasSubstr("rank 2: no answer of rank 2 to Rank::times within 0.0015 s"));
  }));
}

TEST(All, RunsTasksSideBySideAndThrowsTheFirstException) {
  World world;
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto nap = [&self](std::chrono::milliseconds time, bool fails) -> Task<int> {
      (void)co_await self.sleep(time);
      if (fails) throw std::runtime_error("overslept");
      co_return static_cast<int>(time.count());
    };
    std::vector<Task<int>> naps;
    for (const auto time : {30ms, 10ms, 20ms}) naps.push_back(nap(time, false));
    const std::vector<int> slept = co_await all(std::move(naps));
    EXPECT_THAT(slept, ElementsAre(30, 10, 20));
    EXPECT_EQ(self.now(), 30ms);

    std::vector<Task<int>> more;
    for (const bool fails : {false, true, false}) more.push_back(nap(10ms, fails));
    bool threw = false;
    try {
      co_await all(std::move(more));
    } catch (const std::runtime_error& e) {
      threw = std::string(e.what()) == "overslept";
    }
    EXPECT_TRUE(threw);
    EXPECT_EQ(self.now(), 40ms);
    EXPECT_TRUE((co_await all(std::vector<Task<int>>())).empty());
  }));
}

TEST(Handoff, GivesAValueBeforeOrAfterSomeoneWaits) {
  World world;
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    Handoff<int> early;
    early.sender().set(3);
    EXPECT_EQ((co_await early.wait(1s)).value(), 3);

    Handoff<int> later;
    Timer timer = self.node().executor(0).loop().after(5ms, [sender = later.sender()] {
      sender.set(4);
      sender.set(5);
    });
    EXPECT_EQ((co_await later.wait(1s)).value(), 4);
    EXPECT_EQ(self.now(), 5ms);
  }));
}

TEST(Handoff, FailsWhenNobodyIsLeftToGiveIt) {
  World world;
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    Handoff<int> lost;
    {
      const auto sender = lost.sender();
    }
    EXPECT_EQ((co_await lost.wait(1s)).error().message(), "nobody is left to give the value");
    Handoff<int> slow;
    const auto sender = slow.sender();
    EXPECT_EQ((co_await slow.wait(1s)).error().message(), "no value from outside within 1 s");
    sender.set(1);
    EXPECT_EQ(self.now(), 1s);
  }));
}

}  // namespace
}  // namespace troupe::actor
