// Families: who is started again, who is stopped in which order, and what a stop that takes too long says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Log = std::vector<std::string>;

// Says when it starts and stops.
class Worker : public Actor {
 public:
  explicit Worker(Log* log, std::chrono::nanoseconds stops_in = 0ns) : log_(log), stops_in_(stops_in) {}
  Task<void> on_start() override {
    log_->push_back("+" + name());
    co_return;
  }
  Task<void> on_stop() override {
    if (stops_in_ > 0ns) (void)co_await sleep(stops_in_);
    log_->push_back("-" + name());
  }
  void fails(std::string why) { throw std::runtime_error(why); }
  Task<void> busy(std::chrono::nanoseconds time) {
    const Status slept = co_await sleep(time);
    if (!slept.ok()) log_->push_back(name() + " was told");
  }
  // Does not listen.
  Task<void> stubborn(std::chrono::nanoseconds time) {
    const auto end = now() + time;
    while (now() < end) {
      (void)co_await sleep(end - now());
      if (now() < end) co_await Forever(*this);
    }
  }
  void ends() { stop("enough"); }

 private:
  // Waits for something that is not the runtime's, which no stop can end.
  struct Forever {
    explicit Forever(Worker& worker) : worker_(worker) {}
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> handle) { worker_.waiting_ = handle; }
    void await_resume() {}
    Worker& worker_;
  };
  Log* log_;
  std::chrono::nanoseconds stops_in_;
  std::coroutine_handle<> waiting_;
};

class Boss : public Actor {
 public:
  Boss(Log* log, Supervision supervision, int workers) : log_(log), supervision_(supervision), workers_(workers) {}
  Task<void> on_start() override {
    supervise(supervision_);
    for (int i = 0; i < workers_; ++i) spawn<Worker>({.name = std::string(1, static_cast<char>('a' + i))}, log_);
    co_return;
  }
  Task<void> on_stop() override {
    log_->push_back("-boss");
    co_return;
  }
  Ref<Worker> worker(std::string name) { return child<Worker>(name); }

 private:
  Log* log_;
  Supervision supervision_;
  int workers_;
};

struct SupervisionTest : testing::Test {
  World world;
  Log log;

  Ref<Boss> boss(Supervision supervision, int workers = 3) {
    const auto boss = world.node.spawn<Boss>({.name = "boss"}, &log, supervision, workers);
    world.loop.run_until_idle();
    return boss;
  }
  Ref<Worker> worker(const Ref<Boss>& boss, const std::string& name) {
    Ref<Worker> found;
    EXPECT_TRUE(
        world.run([&](Script&) -> Task<void> { found = (co_await boss.ask<&Boss::worker>(name, 1s)).value(); }));
    return found;
  }
  void fail(const Ref<Boss>& boss, const std::string& name) {
    EXPECT_TRUE(worker(boss, name).try_tell<&Worker::fails>("luck of " + name).ok());
    world.loop.run_until_idle();
  }
  std::string why_dead(const Ref<Boss>& boss) { return boss.try_tell<&Boss::worker>("a").error().message(); }
};

TEST_F(SupervisionTest, OneForOneStartsOnlyTheOneThatFailed) {
  const auto parent = boss({.strategy = Strategy::one_for_one});
  const auto before = worker(parent, "b");
  EXPECT_THAT(std::exchange(log, {}), ElementsAre("+boss/a", "+boss/b", "+boss/c"));
  fail(parent, "b");
  EXPECT_THAT(std::exchange(log, {}), ElementsAre("+boss/b"));
  const auto after = worker(parent, "b");
  EXPECT_TRUE(after && !(after == before));
  EXPECT_TRUE(after.try_tell<&Worker::busy>(1ns).ok());
  EXPECT_THAT(before.try_tell<&Worker::busy>(1ns).error().message(), HasSubstr("luck of b"));
}

TEST_F(SupervisionTest, OneForAllStopsTheOthersInReverseAndStartsAllInOrder) {
  const auto parent = boss({.strategy = Strategy::one_for_all});
  log.clear();
  fail(parent, "b");
  EXPECT_THAT(log, ElementsAre("-boss/c", "-boss/a", "+boss/a", "+boss/b", "+boss/c"));
}

TEST_F(SupervisionTest, AnActorThatStopsByItselfIsNotStartedAgain) {
  const auto parent = boss({.strategy = Strategy::one_for_one});
  log.clear();
  EXPECT_TRUE(worker(parent, "b").try_tell<&Worker::ends>().ok());
  world.loop.run_until_idle();
  EXPECT_THAT(log, ElementsAre("-boss/b"));
  EXPECT_FALSE(worker(parent, "b"));
}

TEST_F(SupervisionTest, TooManyFailuresInTheWindowEndTheSupervisorWithTheFirstCause) {
  for (const Strategy strategy : {Strategy::one_for_one, Strategy::one_for_all}) {
    const auto parent = boss({.strategy = strategy, .max_restarts = 2, .window = 10s});
    for (const char* name : {"a", "b", "c"}) fail(parent, name);
    EXPECT_THAT(why_dead(parent),
                HasSubstr("boss (node n1) failed: more than 2 restarts within 10 s; first, boss/a (node "
                          "n1) failed: in Worker::fails: luck of a"));
    EXPECT_EQ(world.node.living(), 0);
  }
}

TEST_F(SupervisionTest, FailuresOutsideTheWindowAreForgotten) {
  const auto parent = boss({.strategy = Strategy::one_for_one, .max_restarts = 2, .window = 10s});
  for (int i = 0; i < 10; ++i) {
    fail(parent, "a");
    world.loop.advance(6s);
  }
  EXPECT_TRUE(worker(parent, "a"));
}

TEST_F(SupervisionTest, EscalationHandsTheCauseOnUnchanged) {
  const auto parent = boss({});
  log.clear();
  fail(parent, "a");
  EXPECT_THAT(why_dead(parent),
              HasSubstr("was not answered by boss: boss/a (node n1) failed: in Worker::fails: luck of a"));
  EXPECT_THAT(log, ElementsAre("-boss/c", "-boss/b"));  // stopped, not abandoned
  EXPECT_EQ(world.node.living(), 0);
}

TEST_F(SupervisionTest, IgnoringLeavesTheOthersAlone) {
  const auto parent = boss({.strategy = Strategy::ignore});
  fail(parent, "a");
  EXPECT_FALSE(worker(parent, "a"));
  EXPECT_TRUE(worker(parent, "b"));
}

class Stillborn : public Actor {
 public:
  explicit Stillborn(int* left) {
    if ((*left)-- <= 0) throw std::runtime_error("no more");
  }
  void fails() { throw std::runtime_error("the first"); }
};

TEST_F(SupervisionTest, AConstructorThatThrowsCountsAsAFailure) {
  int left = 1;
  const auto script = world.node.spawn<Script>({.name = "top"}, [&](Script& self) -> Task<void> {
    self.supervise({.strategy = Strategy::one_for_one, .max_restarts = 3, .window = 10s});
    EXPECT_TRUE((co_await self.spawn<Stillborn>({}, &left).tell<&Stillborn::fails>()).ok());
  });
  world.loop.run_until_idle();
  EXPECT_EQ(left, -3);
  EXPECT_THAT(script.try_tell<&Script::finished>().error().message(),
              HasSubstr("more than 3 restarts within 10 s; first, top/Stillborn (node n1) failed: in "
                        "Stillborn::fails: the first"));
}

TEST_F(SupervisionTest, RestartedActorsTakeTheirRegisteredNameOver) {
  world.node.spawn<Script>({.name = "top"}, [&](Script& self) -> Task<void> {
    self.supervise({.strategy = Strategy::one_for_one});
    self.spawn<Worker>({.name = "w", .registered = "worker"}, &log);
    co_return;
  });
  world.loop.run_until_idle();
  const auto first = world.node.lookup<Worker>("worker");
  EXPECT_TRUE(first->try_tell<&Worker::fails>("x").ok());
  world.loop.run_until_idle();
  const auto second = world.node.lookup<Worker>("worker");
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(*first == *second);
  EXPECT_EQ(world.node.lookup<Boss>("worker").error().message(),
            "worker on node n1 is not of the type that was asked for");
  EXPECT_EQ(world.node.lookup<Worker>("nobody").error().message(), "no actor is registered as nobody on node n1");
}

TEST_F(SupervisionTest, StopTellsHandlersJoinsChildrenInReverseAndRunsOnStopLast) {
  const auto parent = boss({});
  EXPECT_TRUE(worker(parent, "a").try_tell<&Worker::busy>(1000s).ok());
  world.loop.run_until_idle();
  log.clear();
  bool stopped = false;
  world.node.stop("the end", [&] { stopped = true; });
  world.loop.run_until_idle();
  EXPECT_TRUE(stopped);
  EXPECT_THAT(log, ElementsAre("-boss/c", "-boss/b", "boss/a was told", "-boss/a", "-boss"));
  EXPECT_THAT(why_dead(parent), HasSubstr("node n1 stopped: the end"));
}

TEST_F(SupervisionTest, RootsStopInReverseOrderEachAfterTheOneBefore) {
  for (const char* name : {"x", "y", "z"}) world.node.spawn<Worker>({.name = name}, &log, 10ms);
  world.loop.run_until_idle();
  log.clear();
  world.node.stop("the end", [&] { log.push_back("stopped"); });
  world.loop.advance(25ms);
  EXPECT_THAT(log, ElementsAre("-z", "-y"));
  world.loop.advance(25ms);
  EXPECT_THAT(log, ElementsAre("-z", "-y", "-x", "stopped"));
  EXPECT_THROW(world.node.spawn<Worker>({.name = "late"}, &log), CheckFailure);
}

TEST_F(SupervisionTest, ANodeThatStopsStartsNobodyAgain) {
  for (const Strategy strategy : {Strategy::one_for_one, Strategy::one_for_all}) {
    World stopping;
    Log lines;
    const auto parent = stopping.node.spawn<Boss>({.name = "boss"}, &lines, Supervision{.strategy = strategy}, 2);
    stopping.node.spawn<Worker>({.name = "slow"}, &lines, 10ms);
    Ref<Worker> a;
    stopping.node.spawn<Script>(
        {.name = "script"}, [&](Script&) -> Task<void> { a = (co_await parent.ask<&Boss::worker>("a", 1s)).value(); });
    stopping.loop.run_until_idle();
    bool stopped = false;
    stopping.node.stop("the end", [&] { stopped = true; });
    stopping.loop.advance(1ms);
    EXPECT_TRUE(a.try_tell<&Worker::fails>("bad timing").ok());
    stopping.loop.advance(20ms);
    EXPECT_TRUE(stopped);
    EXPECT_THAT(why_dead(parent), HasSubstr("node n1 stopped: the end"));
    EXPECT_EQ(lines.back(), "-boss");
  }
}

TEST_F(SupervisionTest, JoinWaitsForTheEndAndNamesWhatKeepsIt) {
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto quick = self.spawn<Worker>({.name = "quick"}, &log, 1s);
    const auto ended = co_await self.stop_and_join(quick, "enough", 5s);
    EXPECT_TRUE(ended.ok());
    EXPECT_EQ((*ended)->message(), "script/quick stopped: enough");
    EXPECT_EQ(self.now(), 1s);
    const auto again = co_await self.stop_and_join(quick, "enough", 5s);
    EXPECT_TRUE(again.ok());

    const auto slow = self.spawn<Worker>({.name = "slow"}, &log, 100s);
    (void)co_await self.sleep(1ms);
    const auto late = co_await self.stop_and_join(slow, "enough", 5s);
    EXPECT_THAT(
        late.error().message(),
        HasSubstr("script/slow has not ended within 5 s: script/slow (loop 0) is stopping; in on_stop waits for "
                  "time to pass (5 s)"));
  }));
}

TEST_F(SupervisionTest, AHandlerThatDoesNotListenIsNamed) {
  const auto worker = world.node.spawn<Worker>({.name = "w"}, &log);
  EXPECT_TRUE(worker.try_tell<&Worker::stubborn>(10s).ok());
  world.loop.run_until_idle();
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto late = co_await self.stop_and_join(worker, "enough", 5s);
    EXPECT_THAT(late.error().message(), HasSubstr("w (loop 0) is stopping; in Worker::stubborn"));
  }));
}

class Fragile : public Worker {
 public:
  using Worker::Worker;
  Task<void> on_stop() override {
    co_await Worker::on_stop();
    throw std::runtime_error("disk full");
  }
};

TEST_F(SupervisionTest, WhatFailsWhileItStopsIsToldUpwards) {
  std::vector<std::string> heard;
  Node node({.name = "n2", .on_failure = [&](const Down& down) { heard.push_back(down.cause->message()); }},
            {&world.loop});
  node.spawn<Script>({.name = "top"}, [&](Script& self) -> Task<void> {
    self.spawn<Fragile>({.name = "w"}, &log);
    co_return;
  });
  world.loop.run_until_idle();
  bool stopped = false;
  node.stop("the end", [&] { stopped = true; });
  world.loop.run_until_idle();
  EXPECT_TRUE(stopped);
  EXPECT_THAT(heard, ElementsAre("top/w (node n2) failed: in on_stop: disk full"));
}

TEST_F(SupervisionTest, NobodyIsStartedAgainOnceTheNodeStops) {
  for (const Strategy strategy : {Strategy::one_for_one, Strategy::one_for_all}) {
    std::vector<std::string> heard;
    Node node({.name = "n2", .on_failure = [&](const Down& down) { heard.push_back(down.cause->message()); }},
              {&world.loop});
    const auto parent =
        node.spawn<Boss>({.name = "boss"}, &log, Supervision{.strategy = strategy, .max_restarts = 1}, 3);
    const auto last = node.spawn<Worker>({.name = "last"}, &log, 10s);
    world.loop.run_until_idle();
    Ref<Worker> worker;
    node.spawn<Script>({},
                       [&](Script&) -> Task<void> { worker = (co_await parent.ask<&Boss::worker>("b", 1s)).value(); });
    world.loop.run_until_idle();
    log.clear();
    node.stop("the end", [&] { log.push_back("stopped"); });
    world.loop.run_until_idle();  // the last root takes its time; boss still runs
    EXPECT_TRUE(worker.try_tell<&Worker::fails>("luck").ok());
    world.loop.advance(20s);
    EXPECT_THAT(heard, IsEmpty());
    EXPECT_THAT(log, testing::Not(testing::Contains("+boss/b")));
    EXPECT_EQ(log.back(), "stopped");
  }
}

TEST_F(SupervisionTest, TheEndIsToldOnceTheChildrenHaveEnded) {
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto parent = self.spawn<Script>({.name = "parent"}, [&](Script& me) -> Task<void> {
      me.spawn<Worker>({.name = "w"}, &log, 5s);
      co_return;
    });
    self.supervise({.strategy = Strategy::ignore});
    (void)co_await self.sleep(1ms);
    EXPECT_TRUE(parent
                    .try_tell<&Script::run>([](Script&) -> Task<void> {
                      throw std::runtime_error("luck");
                      co_return;
                    })
                    .ok());
    const auto ended = co_await self.stop_and_join(parent, "", 100s);
    EXPECT_THAT((*ended)->message(), HasSubstr("luck"));
    EXPECT_EQ(self.now(), 5s + 1ms);
    EXPECT_THAT(log, ElementsAre("+script/parent/w", "-script/parent/w"));
  }));
}

class Circular : public Actor {
 public:
  void meet(Ref<Circular> other) { other_ = other; }
  Task<Result<int>> round() { co_return TROUPE_CO_TRY(co_await other_.ask<&Circular::round>(50s)); }

 private:
  Ref<Circular> other_;
};

TEST_F(SupervisionTest, TheReportSaysWhoWaitsForWhomAndFindsCircles) {
  const auto a = world.node.spawn<Circular>({.name = "a"});
  const auto b = world.node.spawn<Circular>({.name = "b"});
  const auto idle = world.node.spawn<Circular>({.name = "idle"});
  EXPECT_TRUE(a.try_tell<&Circular::meet>(b).ok());
  EXPECT_TRUE(b.try_tell<&Circular::meet>(a).ok());
  EXPECT_TRUE(a.try_tell<&Circular::round>().ok());
  world.loop.run_until_idle();
  world.loop.advance(3s);
  std::optional<NodeReport> report;
  world.node.report([&](NodeReport made) { report = std::move(made); });
  world.loop.run_until_idle();
  ASSERT_TRUE(report);
  EXPECT_THAT(report->cycles(),
              ElementsAre("a waits for answer of b to Circular::round (3 s) → b waits for answer of a to "
                          "Circular::round (3 s) → a"));
  EXPECT_THAT(report->text(),
              HasSubstr("a (loop 0) is running, 1 messages wait; in Circular::round waits for answer of "
                        "b to Circular::round (3 s)\n"));
  EXPECT_THAT(report->text(), testing::Not(HasSubstr("idle")));
}

TEST_F(SupervisionTest, CountersCountMessagesAndQueues) {
  const auto worker = world.node.spawn<Worker>({.name = "w"}, &log);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(worker.try_tell<&Worker::busy>(1s).ok());
  world.loop.advance(2500ms);
  std::optional<NodeReport> report;
  world.node.report([&](NodeReport made) { report = std::move(made); });
  world.loop.run_until_idle();
  ASSERT_EQ(report->actors.size(), 1u);
  const ActorCounters counters = report->actors[0].counters;
  EXPECT_EQ(counters.messages, 4u);  // on_start and three
  EXPECT_EQ(counters.queued, 2u);
  EXPECT_EQ(counters.most_queued, 5u);
}

}  // namespace
}  // namespace troupe::actor
