// What a cell owes to those outside: it is complete when it is found, and survives what its actor throws.
#include "runtime/actor/cell.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/actor/handoff.h"
#include "runtime/actor/threaded_node.h"
#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Throws before there is a coroutine, wherever it is told to.
class Thrower : public Actor {
 public:
  explicit Thrower(std::string where) : where_(std::move(where)) {}
  Task<void> on_start() override { return throws("on_start"); }
  Task<void> on_stop() override { return throws("on_stop"); }
  Task<int> handler() {
    (void)throws("handler");
    return {};
  }

 private:
  Task<void> throws(const char* place) {
    if (place == where_) throw std::runtime_error("out of luck");
    return {};
  }
  std::string where_;
};

struct Failures {
  SimulatedLoop loop;
  std::vector<std::string> heard;
  Node node{{.name = "n1", .on_failure = [this](const Down& down) { heard.push_back(down.cause->message()); }},
            {&loop}};
};

TEST(Cell, WhatIsThrownWithoutACoroutineIsTheActorsDeath) {
  for (const char* place : {"on_start", "on_stop", "handler"}) {
    Failures world;
    const auto thrower = world.node.spawn<Thrower>({.name = "x"}, place);
    world.loop.run_until_idle();
    if (place == std::string("handler")) EXPECT_TRUE(thrower.try_tell<&Thrower::handler>().ok());
    world.loop.run_until_idle();
    thrower.stop("enough");
    world.loop.run_until_idle();
    EXPECT_EQ(world.node.living(), 0);
    ASSERT_EQ(world.heard.size(), 1u) << place;
    EXPECT_THAT(world.heard[0], HasSubstr(fmt::format("{}: out of luck", place)));
  }
}

TEST(Cell, AHandlerThatReturnsNoTaskIsAFailure) {
  Failures world;
  const auto thrower = world.node.spawn<Thrower>({.name = "x"}, "nowhere");
  EXPECT_TRUE(thrower.try_tell<&Thrower::handler>().ok());
  world.loop.run_until_idle();
  ASSERT_EQ(world.heard.size(), 1u);
  EXPECT_THAT(world.heard[0], HasSubstr("x (node n1) failed: in Thrower::handler"));
  EXPECT_THAT(world.heard[0], HasSubstr("the handler returned no task"));
}

class Plain : public Actor {
 public:
  int value() { return 1; }
  Task<void> note(int number) {
    seen.push_back(number);
    (void)co_await sleep(1s);
  }
  std::vector<int> notes() { return seen; }
  Task<Result<int>> late(std::vector<std::string>* said, Ref<Plain> other) {
    while (true) {
      (void)co_await sleep(1ms);
      if (const Status told = co_await other.tell<&Plain::note>(1); !told.ok()) {
        said->push_back(told.error().message());
        co_return told.error();
      }
    }
  }
  std::vector<int> seen;
};

TEST(Cell, NothingOvertakesATellThatWaitsForRoom) {
  World world;
  const auto plain = world.node.spawn<Plain>({.mailbox = 1});
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    (void)co_await plain.tell<&Plain::note>(0);
    (void)co_await self.sleep(1ms);
    (void)co_await plain.tell<&Plain::note>(1);
    std::vector<Task<void>> both;
    both.push_back([](Ref<Plain> to) -> Task<void> { (void)co_await to.tell<&Plain::note>(2); }(plain));
    both.push_back([](Ref<Plain> to) -> Task<void> { (void)co_await to.ask<&Plain::note>(3, 60s); }(plain));
    co_await all(std::move(both));
    EXPECT_THAT((co_await plain.ask<&Plain::notes>(60s)).value(), testing::ElementsAre(0, 1, 2, 3));
  }));
}

TEST(Cell, AReentrantActorRunsNoMoreHandlersThanItsMailboxHolds) {
  World world;
  const auto plain = world.node.spawn<Plain>({.mailbox = 2, .reentrant = true});
  world.loop.run_until_idle();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(plain.try_tell<&Plain::note>(i).ok());
  world.loop.run_until_idle();
  for (int i = 2; i < 4; ++i) EXPECT_TRUE(plain.try_tell<&Plain::note>(i).ok());
  world.loop.run_until_idle();
  EXPECT_FALSE(plain.try_tell<&Plain::note>(4).ok());
  world.loop.advance(1s);
  EXPECT_TRUE(plain.try_tell<&Plain::note>(4).ok());
}

TEST(Cell, AHandlerThatWasToldToStopTellsNobodyAnything) {
  World world;
  std::vector<std::string> said;
  const auto plain = world.node.spawn<Plain>({.name = "a"});
  const auto other = world.node.spawn<Plain>({.name = "b", .mailbox = 1 << 20, .reentrant = true});
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    EXPECT_FALSE((co_await plain.ask<&Plain::late>(&said, other, 10ms)).ok());
    (void)co_await self.sleep(10ms);
  }));
  EXPECT_EQ(said.size(), 1u);
}

// What came with a message, held by nobody else once its handler has ended, however it ended.
class Keeper : public Actor {
 public:
  using Thing = std::shared_ptr<int>;
  void look(const Thing&) {}
  Thing give_back(Thing thing) { return thing; }
  Task<Thing> give_back_later(Thing thing) {
    (void)co_await sleep(1ms);
    co_return thing;
  }
  Task<void> wait(Thing) { (void)co_await sleep(1s); }
  Task<void> wait_in_vain(Thing thing) {
    (void)co_await sleep(1ms);
    throw std::runtime_error("enough");
  }
  void fail(Thing) { throw std::runtime_error("enough"); }
};

TEST(Cell, AMessageKeepsNothingOnceItsHandlerHasEnded) {
  const auto thing = std::make_shared<int>(1);
  const auto uses_after = [&](auto tell) {
    World world;
    const auto keeper = world.node.spawn<Keeper>({});
    world.loop.run_until_idle();
    EXPECT_TRUE(tell(keeper).ok());
    EXPECT_EQ(thing.use_count(), 2);
    world.loop.advance(10ms);
    return thing.use_count();
  };
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) { return to.try_tell<&Keeper::look>(thing); }), 1);
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) { return to.try_tell<&Keeper::give_back>(thing); }), 1);
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) { return to.try_tell<&Keeper::give_back_later>(thing); }), 1);
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) { return to.try_tell<&Keeper::wait_in_vain>(thing); }), 1);
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) { return to.try_tell<&Keeper::fail>(thing); }), 1);
  EXPECT_EQ(uses_after([&](const Ref<Keeper>& to) {
              const Status told = to.try_tell<&Keeper::wait>(thing);
              to.stop("enough");
              return told;
            }),
            1);
}

TEST(Cell, CountsTheMessagesThatItHasHandledAndTheMostThatWaited) {
  World world;
  const auto plain = world.node.spawn<Plain>({});
  world.loop.run_until_idle();
  for (int i = 0; i < 200; ++i) EXPECT_TRUE(plain.try_tell<&Plain::value>().ok());
  world.loop.run_until_idle();
  EXPECT_EQ(plain.endpoint()->cell()->counters().messages, 200u);
  EXPECT_EQ(plain.endpoint()->cell()->counters().most_queued, 200u);
  EXPECT_EQ(plain.endpoint()->cell()->counters().queued, 0u);
}

TEST(Cell, ADeadlineThatNeverComesIsNone) {
  ThreadedNode node({});
  const auto plain = node->spawn<Plain>({});
  EXPECT_TRUE(plain.ask_blocking<&Plain::value>(kNever).ok());
  EXPECT_TRUE(node->stop_blocking(kNever).ok());
}

TEST(Cell, IsCompleteAsSoonAsItsNameIsFound) {
  ThreadedNode node({}, 2);
  std::atomic<bool> end{false};
  std::atomic<int64_t> found{0};
  std::thread finder([&] {
    while (!end) {
      if (node->lookup<Plain>("plain").ok()) ++found;
    }
  });
  for (int i = 0; i < 3000 || found == 0; ++i) node->spawn<Plain>({.loop = i % 2, .registered = "plain"}).stop("next");
  end = true;
  finder.join();
  EXPECT_GT(found, 0);
  EXPECT_TRUE(node->stop_blocking(20s).ok());
}

TEST(Cell, ANodeMayStopWhileActorsAreSpawned) {
  for (int round = 0; round < 20; ++round) {
    ThreadedNode node({}, 2);
    std::thread spawner([&] {
      try {
        for (int i = 0; i < 100; ++i) node->spawn<Plain>({.loop = i % 2});
      } catch (const CheckFailure&) {
      }
    });
    std::this_thread::yield();
    EXPECT_TRUE(node->stop_blocking(20s).ok());
    spawner.join();
    EXPECT_EQ(node->living(), 0);
  }
}

}  // namespace
}  // namespace troupe::actor
