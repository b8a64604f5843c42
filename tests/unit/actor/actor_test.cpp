// Messages between actors of one node, under virtual time: delivery, order, bounds, deadlines, death.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Counter : public Actor {
 public:
  Task<int> add(int amount) {
    value_ += amount;
    co_return value_;
  }
  int value() const { return value_; }
  Result<int> checked(int value) {
    if (value < 0) return failed("{} is negative", value);
    return value;
  }
  Task<Result<int>> checked_later(int value) {
    const Status slept = co_await sleep(1ms);
    if (!slept.ok()) co_return slept.error();
    if (value < 0) co_return failed("{} is negative", value);
    co_return value;
  }
  void nothing() {}

 private:
  int value_ = 0;
};

// Keeps what it was told, and takes its time.
class Recorder : public Actor {
 public:
  explicit Recorder(std::vector<std::string>* seen, std::chrono::nanoseconds takes = 0ns)
      : seen_(seen), takes_(takes) {}
  Task<void> note(std::string word) {
    seen_->push_back(word);
    if (takes_ > 0ns) {
      const Status slept = co_await sleep(takes_);
      seen_->push_back(slept.ok() ? word + " done" : word + " cut short: " + slept.error().message());
    }
  }
  void down(Down) { seen_->push_back("down"); }
  void fails(std::string why) { throw std::runtime_error(why); }
  Task<void> fails_later(std::string why) {
    (void)co_await sleep(10ms);
    throw std::runtime_error(why);
  }
  Task<void> ends() {
    stop("enough");
    co_return;
  }

 private:
  std::vector<std::string>* seen_;
  std::chrono::nanoseconds takes_;
};

TEST(Ask, IsAnsweredByCoroutinesAndPlainFunctions) {
  World world;
  const auto counter = world.node.spawn<Counter>({});
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    EXPECT_EQ((co_await counter.ask<&Counter::add>(2, 1s)).value(), 2);
    EXPECT_EQ((co_await counter.ask<&Counter::add>(3, 1s)).value(), 5);
    EXPECT_EQ((co_await counter.ask<&Counter::value>(1s)).value(), 5);
    EXPECT_TRUE((co_await counter.ask<&Counter::nothing>(1s)).ok());
    EXPECT_EQ((co_await counter.ask<&Counter::checked>(4, 1s)).value(), 4);
    EXPECT_EQ((co_await counter.ask<&Counter::checked>(-4, 1s)).error().message(), "-4 is negative");
    EXPECT_EQ((co_await counter.ask<&Counter::checked_later>(4, 1s)).value(), 4);
    EXPECT_EQ((co_await counter.ask<&Counter::checked_later>(-4, 1s)).error().message(), "-4 is negative");
  }));
}

class Asking : public Actor {
 public:
  explicit Asking(Ref<Counter> counter) : counter_(counter) {}
  Task<Result<int>> sum(int a, int b) {
    TROUPE_CO_TRY(co_await counter_.ask<&Counter::checked>(a, 1s));
    const int first = TROUPE_CO_TRY(co_await checked(a));
    const int second = TROUPE_CO_TRY(co_await checked(b));
    co_return first + second;
  }

 private:
  Task<Result<int>> checked(int value) { co_return TROUPE_CO_TRY(co_await counter_.ask<&Counter::checked>(value, 1s)); }
  Ref<Counter> counter_;
};

TEST(Ask, ErrorsGoUpThroughTasksAndActors) {
  World world;
  const auto asking = world.node.spawn<Asking>({}, world.node.spawn<Counter>({}));
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    EXPECT_EQ((co_await asking.ask<&Asking::sum>(1, 2, 1s)).value(), 3);
    EXPECT_EQ((co_await asking.ask<&Asking::sum>(1, -2, 1s)).error().message(), "-2 is negative");
  }));
}

struct Heavy {
  explicit Heavy(int number) : value(std::make_unique<int>(number)) {}
  std::unique_ptr<int> value;
};
class Mover : public Actor {
 public:
  Task<Heavy> pass(Heavy heavy) { co_return std::move(heavy); }
  std::unique_ptr<int> plain(Heavy heavy) { return std::move(heavy.value); }
};

TEST(Ask, MovesArgumentsAndAnswersThatCannotBeCopied) {
  World world;
  const auto mover = world.node.spawn<Mover>({});
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    Heavy heavy(7);
    const int* address = heavy.value.get();
    auto back = co_await mover.ask<&Mover::pass>(std::move(heavy), 1s);
    EXPECT_EQ(back.value().value.get(), address);
    auto plain = co_await mover.ask<&Mover::plain>(std::move(*back), 1s);
    EXPECT_EQ(plain.value().get(), address);
  }));
}

TEST(Tell, ArrivesInTheOrderOfSending) {
  World world;
  std::vector<std::string> seen;
  const auto recorder = world.node.spawn<Recorder>({}, &seen);
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    EXPECT_TRUE((co_await recorder.tell<&Recorder::note>("a")).ok());
    EXPECT_TRUE(recorder.try_tell<&Recorder::note>("b").ok());
    EXPECT_TRUE((co_await recorder.ask<&Recorder::note>("c", 1s)).ok());
    EXPECT_TRUE((co_await recorder.tell<&Recorder::note>("d")).ok());
  }));
  EXPECT_THAT(seen, ElementsAre("a", "b", "c", "d"));
}

TEST(Mailbox, OneMessageAtATimeUnlessReentrant) {
  for (const bool reentrant : {false, true}) {
    World world;
    std::vector<std::string> seen;
    const auto recorder = world.node.spawn<Recorder>({.reentrant = reentrant}, &seen, 10ms);
    EXPECT_TRUE(recorder.try_tell<&Recorder::note>("a").ok());
    EXPECT_TRUE(recorder.try_tell<&Recorder::note>("b").ok());
    world.loop.advance(1s);
    if (reentrant) EXPECT_THAT(seen, ElementsAre("a", "b", "a done", "b done"));
    else EXPECT_THAT(seen, ElementsAre("a", "a done", "b", "b done"));
  }
}

TEST(Mailbox, IsBoundedTryTellRefusesAndTellWaits) {
  World world;
  std::vector<std::string> seen;
  const auto recorder = world.node.spawn<Recorder>({.name = "slow", .mailbox = 2}, &seen, 10ms);
  std::vector<std::chrono::nanoseconds> sent_at;
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    (void)co_await recorder.tell<&Recorder::note>("0");
    (void)co_await self.sleep(1ms);  // it has begun
    for (int i = 1; i < 5; ++i) {
      EXPECT_TRUE((co_await recorder.tell<&Recorder::note>(std::to_string(i))).ok());
      sent_at.push_back(self.now());
      if (i == 2) {
        const Status refused = recorder.try_tell<&Recorder::note>("refused");
        EXPECT_EQ(refused.error().message(), "the mailbox of slow has no room for Recorder::note");
      }
    }
  }));
  EXPECT_THAT(sent_at, ElementsAre(1ms, 1ms, 10ms, 20ms));
  world.loop.advance(1s);
  EXPECT_THAT(seen, ElementsAre("0", "0 done", "1", "1 done", "2", "2 done", "3", "3 done", "4", "4 done"));
}

TEST(Mailbox, ATellThatFoundNoRoomInTimeIsTakenBack) {
  World world;
  std::vector<std::string> seen;
  const auto recorder = world.node.spawn<Recorder>({.name = "slow", .mailbox = 1}, &seen, 100s);
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    (void)co_await recorder.tell<&Recorder::note>("a");
    (void)co_await self.sleep(1ms);
    (void)co_await recorder.tell<&Recorder::note>("b");
    const Status sent = co_await recorder.tell<&Recorder::note>("c");
    EXPECT_EQ(self.now(), 30s + 1ms);
    EXPECT_EQ(sent.error().message(), "no room in the mailbox of slow for Recorder::note within 30 s");
  }));
  world.loop.advance(1000s);
  EXPECT_THAT(seen, ElementsAre("a", "a done", "b", "b done"));
}

TEST(Mailbox, SystemMessagesGoFirst) {
  World world;
  std::vector<std::string> seen;
  const auto other = world.node.spawn<Recorder>({}, &seen);
  class Watching : public Recorder {
   public:
    Watching(std::vector<std::string>* seen, Ref<Recorder> whom) : Recorder(seen, 10ms), whom_(whom) {}
    Task<void> on_start() override {
      watch<&Recorder::down>(whom_);
      return {};
    }
    Ref<Recorder> whom_;
  };
  const auto watching = world.node.spawn<Watching>({}, &seen, other);
  world.loop.run_until_idle();
  for (const char* word : {"a", "b", "c"}) EXPECT_TRUE(watching.try_tell<&Recorder::note>(word).ok());
  world.loop.advance(1ms);
  other.stop("go");
  world.loop.advance(1s);
  EXPECT_THAT(seen, ElementsAre("a", "a done", "down", "b", "b done", "c", "c done"));
}

// Hooks that are no coroutines.
class Clumsy : public Actor {
 public:
  explicit Clumsy(bool starts) : starts_(starts) {}
  Task<void> on_start() override {
    if (!starts_) throw std::runtime_error("no start");
    return {};
  }
  Task<void> on_stop() override { throw std::runtime_error("no stop"); }
  void nothing() {}

 private:
  const bool starts_;
};

TEST(Life, AHookThatThrowsIsTheDeathOfItsActorAlone) {
  World world;
  const auto early = world.node.spawn<Clumsy>({.name = "early"}, false);
  const auto late = world.node.spawn<Clumsy>({.name = "late"}, true);
  world.loop.run_until_idle();
  late.stop("enough");
  world.loop.run_until_idle();
  EXPECT_THAT(early.try_tell<&Clumsy::nothing>().error().message(),
              HasSubstr("early (node n1) failed: in on_start: no start"));
  EXPECT_FALSE(late.try_tell<&Clumsy::nothing>().ok());
  EXPECT_EQ(world.node.living(), 0);
}

TEST(Deadline, AnAskThatIsNotAnsweredInTimeSaysWhoWasAskedWhat) {
  World world;
  std::vector<std::string> seen;
  const auto slow = world.node.spawn<Recorder>({.name = "slow"}, &seen, 10s);
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    const auto answer = co_await slow.ask<&Recorder::note>("a", 2s);
    EXPECT_EQ(self.now(), 2s);
    EXPECT_EQ(answer.error().message(), "no answer of slow to Recorder::note within 2 s");
  }));
}

TEST(Deadline, TheOneAskedIsToldWhenTheAskerGivesUp) {
  World world;
  std::vector<std::string> seen;
  const auto slow = world.node.spawn<Recorder>({.name = "slow"}, &seen, 10s);
  EXPECT_TRUE(
      world.run([&](Script&) -> Task<void> { EXPECT_FALSE((co_await slow.ask<&Recorder::note>("a", 2s)).ok()); }));
  EXPECT_EQ(world.loop.clock().now(), 2s);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_THAT(seen[1], HasSubstr("a cut short: "));
}

TEST(Deadline, AQuestionThatNobodyWaitsForIsNotBegun) {
  World world;
  std::vector<std::string> seen;
  const auto slow = world.node.spawn<Recorder>({.name = "slow"}, &seen, 10s);
  EXPECT_TRUE(slow.try_tell<&Recorder::note>("first").ok());
  EXPECT_TRUE(
      world.run([&](Script&) -> Task<void> { EXPECT_FALSE((co_await slow.ask<&Recorder::note>("second", 2s)).ok()); }));
  world.loop.advance(100s);
  EXPECT_THAT(seen, ElementsAre("first", "first done"));
}

class Chain : public Actor {
 public:
  explicit Chain(Ref<Chain> next) : next_(next) {}
  Task<Result<int64_t>> depth() {
    if (!next_) {
      (void)co_await sleep(1000s);
      co_return now().count();
    }
    auto answer = co_await next_.ask<&Chain::depth>(100s);
    ended_at_ = now();
    co_return answer;
  }
  std::chrono::nanoseconds ended_at() const { return ended_at_; }

 private:
  Ref<Chain> next_;
  std::chrono::nanoseconds ended_at_{0};
};

TEST(Deadline, IsInheritedByEverythingThatTheAnswerNeeds) {
  World world;
  const auto last = world.node.spawn<Chain>({.name = "last"}, Ref<Chain>());
  const auto middle = world.node.spawn<Chain>({.name = "middle"}, last);
  const auto first = world.node.spawn<Chain>({.name = "first"}, middle);
  EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
    EXPECT_FALSE((co_await first.ask<&Chain::depth>(3s)).ok());
    EXPECT_EQ(self.now(), 3s);
    EXPECT_EQ((co_await middle.ask<&Chain::ended_at>(1s)).value(), 3s);
    EXPECT_EQ((co_await first.ask<&Chain::ended_at>(1s)).value(), 3s);
  }));
}

TEST(Death, AHandlerThatThrowsEndsTheActorAndEveryoneLearnsTheFirstCause) {
  for (const bool later : {false, true}) {
    World world;
    std::vector<std::string> seen;
    const auto actor = world.node.spawn<Recorder>({.name = "victim"}, &seen);
    const std::string method = later ? "Recorder::fails_later" : "Recorder::fails";
    const std::string cause = "victim (node n1) failed: in " + method + ": out of luck";
    EXPECT_TRUE(world.run([&](Script& self) -> Task<void> {
      self.watch<&Script::down>(actor);
      if (later) EXPECT_TRUE(actor.try_tell<&Recorder::fails_later>("out of luck").ok());
      else EXPECT_TRUE(actor.try_tell<&Recorder::fails>("out of luck").ok());
      const auto waiting = co_await actor.ask<&Recorder::note>("queued", 1s);
      EXPECT_EQ(waiting.error().message(), "Recorder::note was not answered: " + cause);
      const auto afterwards = co_await actor.ask<&Recorder::note>("late", 1s);
      EXPECT_EQ(afterwards.error().message(), "Recorder::note was not answered: " + cause);
      EXPECT_THAT((co_await actor.tell<&Recorder::note>("told")).error().message(), HasSubstr(cause));
      EXPECT_THAT(actor.try_tell<&Recorder::note>("tried").error().message(), HasSubstr(cause));
      self.watch<&Script::down>(actor);  // too late, and told at once
      (void)co_await self.sleep(1ms);
      std::vector<std::string> causes;
      for (const Down& down : self.downs) causes.push_back(down.cause->message());
      EXPECT_THAT(causes, ElementsAre(cause, cause));
    }));
    EXPECT_THAT(seen, IsEmpty());
  }
}

TEST(Death, TheAskThatCausedItIsAnsweredToo) {
  World world;
  std::vector<std::string> seen;
  const auto actor = world.node.spawn<Recorder>({.name = "victim"}, &seen);
  EXPECT_TRUE(world.run([&](Script&) -> Task<void> {
    const auto answer = co_await actor.ask<&Recorder::fails_later>("out of luck", 1s);
    EXPECT_EQ(answer.error().message(),
              "Recorder::fails_later was not answered: victim (node n1) failed: in Recorder::fails_later: out of luck");
  }));
}

TEST(Death, WatchersAreToldOnceAndNotAfterUnwatch) {
  World world;
  std::vector<std::string> seen;
  const auto actor = world.node.spawn<Recorder>({.name = "victim"}, &seen);
  const auto watcher = world.node.spawn<Script>({.name = "watcher"}, [&](Script& self) -> Task<void> {
    self.watch<&Script::down>(actor);
    co_return;
  });
  const auto other = world.node.spawn<Script>({.name = "other"}, [&](Script& self) -> Task<void> {
    self.watch<&Script::down>(actor);
    self.unwatch(actor);
    co_return;
  });
  world.loop.run_until_idle();
  EXPECT_TRUE(actor.try_tell<&Recorder::ends>().ok());
  world.loop.run_until_idle();
  const auto count = [&](const Ref<Script>& script) {
    size_t downs = 99;
    EXPECT_TRUE(script
                    .try_tell<&Script::run>([&](Script& self) -> Task<void> {
                      downs = self.downs.size();
                      if (downs == 1) EXPECT_EQ(self.downs[0].cause->message(), "victim stopped: enough");
                      co_return;
                    })
                    .ok());
    world.loop.run_until_idle();
    return downs;
  };
  EXPECT_EQ(count(watcher), 1u);
  EXPECT_EQ(count(other), 0u);
  EXPECT_EQ(world.node.living(), 2);
}

TEST(Timers, LaterSendsAMessageUnlessTheTimerGoes) {
  World world;
  std::vector<std::chrono::nanoseconds> fired;
  const auto script = world.node.spawn<Script>({});
  Timer kept, dropped;
  EXPECT_TRUE(script
                  .try_tell<&Script::run>([&](Script& self) -> Task<void> {
                    const auto note = [&](Script& me) -> Task<void> {
                      fired.push_back(me.now());
                      co_return;
                    };
                    kept = self.later<&Script::run>(5ms, note);
                    dropped = self.later<&Script::run>(5ms, note);
                    co_return;
                  })
                  .ok());
  world.loop.run_until_idle();
  dropped.cancel();
  world.loop.advance(1s);
  EXPECT_THAT(fired, ElementsAre(5ms));
}

TEST(Node, CanGoAtAnyMoment) {
  // A node is destroyed after every number of events of a run in which actors are spawned, ask, wait and die.
  for (int events = 0; events < 60; ++events) {
    SimulatedLoop loop;
    std::vector<std::string> seen;
    {
      Node node({.name = "n1"}, {&loop});
      const auto counter = node.spawn<Counter>({});
      const auto slow = node.spawn<Recorder>({.name = "slow", .mailbox = 1}, &seen, 5ms);
      node.spawn<Script>({}, [&](Script& self) -> Task<void> {
        self.supervise({.strategy = Strategy::one_for_one});
        const auto child = self.spawn<Recorder>({.name = "child"}, &seen, 1ms);
        self.watch<&Script::down>(slow);
        for (int i = 0; i < 3; ++i) {
          (void)co_await counter.ask<&Counter::checked_later>(1, 1s);
          (void)co_await slow.tell<&Recorder::note>("a");
        }
        (void)co_await child.ask<&Recorder::fails_later>("no reason", 1s);
        (void)co_await self.stop_and_join(slow, "enough", 1s);
      });
      for (int i = 0; i < events && (loop.run_one() || loop.advance_to_next()); ++i) {
      }
    }
    loop.run_until_idle();
  }
}

}  // namespace
}  // namespace troupe::actor
