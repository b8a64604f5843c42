#include "launcher/commands/measure_actors.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "runtime/actor/mesh_ref.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"

namespace troupe::launcher {
namespace {

using namespace std::chrono_literals;
using actor::Actor;
using actor::MeshRef;
using actor::Ref;
using actor::Task;
using actor::ThreadedNode;

constexpr auto kPatience = 120s;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Two of them throw a ball to and fro by tell; the one that starts answers with the seconds it took.
class Player : public Actor {
 public:
  void meet(Ref<Player> other) { other_ = other; }
  Task<double> play(int64_t throws) {
    left_ = throws;
    const auto start = std::chrono::steady_clock::now();
    const actor::Handoff<int> done;
    done_.emplace(done.sender());
    (void)co_await other_.tell<&Player::ball>();
    (void)co_await done.wait(kPatience);
    co_return seconds_since(start);
  }
  Task<void> ball() {
    if (done_ && left_-- <= 0) {
      done_->set(1);
      done_.reset();
      co_return;
    }
    (void)co_await other_.tell<&Player::ball>();
  }

 private:
  Ref<Player> other_;
  int64_t left_ = 0;
  std::optional<actor::Handoff<int>::Sender> done_;
};

// The same with a handler that is no coroutine.
class PlainPlayer : public Actor {
 public:
  void meet(Ref<PlainPlayer> other) { other_ = other; }
  Task<double> play(int64_t throws) {
    left_ = throws;
    const auto start = std::chrono::steady_clock::now();
    const actor::Handoff<int> done;
    done_.emplace(done.sender());
    (void)other_.try_tell<&PlainPlayer::ball>();
    (void)co_await done.wait(kPatience);
    co_return seconds_since(start);
  }
  void ball() {
    if (!done_ || left_-- > 0) return (void)other_.try_tell<&PlainPlayer::ball>();
    done_->set(1);
    done_.reset();
  }

 private:
  Ref<PlainPlayer> other_;
  int64_t left_ = 0;
  std::optional<actor::Handoff<int>::Sender> done_;
};

class Echo : public Actor {
 public:
  int64_t echo(int64_t number) { return number; }
};

class Asker : public Actor {
 public:
  explicit Asker(Ref<Echo> echo) : echo_(echo) {}
  Task<double> asks(int64_t count) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < count; ++i) (void)co_await echo_.ask<&Echo::echo>(i, kPatience);
    co_return seconds_since(start);
  }

 private:
  Ref<Echo> echo_;
};

class Sink : public Actor {
 public:
  void expect(int64_t messages) { left_ = messages; }
  void take(int64_t) {
    if (--left_ == 0 && done_) done_->set(1);
  }
  Task<void> all() {
    if (left_ <= 0) co_return;
    const actor::Handoff<int> done;
    done_.emplace(done.sender());
    (void)co_await done.wait(kPatience);
  }

 private:
  int64_t left_ = 0;
  std::optional<actor::Handoff<int>::Sender> done_;
};

class Source : public Actor {
 public:
  explicit Source(Ref<Sink> sink) : sink_(sink) {}
  Task<void> send(int64_t messages) {
    for (int64_t i = 0; i < messages; ++i) (void)co_await sink_.tell<&Sink::take>(i);
  }

 private:
  Ref<Sink> sink_;
};

class Head : public Actor {
 public:
  explicit Head(MeshRef<Echo> ranks) : ranks_(std::move(ranks)) {}
  Task<double> round() {
    const auto start = std::chrono::steady_clock::now();
    const auto sum = co_await ranks_.reduce<&Echo::echo>(std::plus<>(), int64_t{1}, kPatience);
    TROUPE_CHECK(sum.ok() && *sum == static_cast<int64_t>(ranks_.size()));
    co_return seconds_since(start);
  }

 private:
  MeshRef<Echo> ranks_;
};

template <class P>
double play(int64_t throws, int loops) {
  ThreadedNode node({}, loops);
  const auto first = node->spawn<P>({.name = "first", .reentrant = true});
  const auto second = node->spawn<P>({.name = "second", .loop = loops - 1});
  TROUPE_CHECK(second.template ask_blocking<&P::meet>(first, kPatience).ok());
  TROUPE_CHECK(first.template ask_blocking<&P::meet>(second, kPatience).ok());
  return first.template ask_blocking<&P::play>(throws, kPatience).value() / static_cast<double>(2 * throws);
}

double asks(int64_t count, int loops) {
  ThreadedNode node({}, loops);
  const auto echo = node->spawn<Echo>({.name = "echo", .loop = loops - 1});
  const auto asker = node->spawn<Asker>({.name = "asker"}, echo);
  return asker.ask_blocking<&Asker::asks>(count, kPatience).value() / static_cast<double>(count);
}

double idle_bytes(int actors) {
  ThreadedNode node({}, 1);
  node->spawn<Echo>({.name = "warm"});
  const auto before = static_cast<double>(mallinfo2().uordblks);
  std::vector<Ref<Echo>> refs;
  refs.reserve(static_cast<size_t>(actors));
  const auto vector_bytes = static_cast<double>(mallinfo2().uordblks) - before;
  for (int i = 0; i < actors; ++i) refs.push_back(node->spawn<Echo>({.name = "idle"}));
  TROUPE_CHECK(refs.back().ask_blocking<&Echo::echo>(1, kPatience).ok());
  return (static_cast<double>(mallinfo2().uordblks) - before - vector_bytes) / actors;
}

// How fast the core is at this moment, which on a shared machine moves more than anything else here: additions of which
// each needs the one before take a cycle each.
double core_ghz() {
  constexpr int64_t kAdditions = 20'000'000;
  uint64_t sum = 1;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < kAdditions; ++i) {
    ++sum;
    asm volatile("" : "+r"(sum));
  }
  return static_cast<double>(kAdditions) / seconds_since(start) / 1e9;
}

double round_of(const Ref<Head>& head) { return head.ask_blocking<&Head::round>(kPatience).value(); }

}  // namespace

double ping_pong(int64_t throws, int loops) { return play<Player>(throws, loops); }

double fan_in(int64_t messages_of_each, int loops) {
  constexpr int kSources = 4;
  ThreadedNode node({}, loops);
  const auto sink = node->spawn<Sink>({.name = "sink", .reentrant = true});
  std::vector<Ref<Source>> sources;
  for (int i = 0; i < kSources; ++i) {
    sources.push_back(node->spawn<Source>({.name = "source", .loop = loops - 1}, sink));
  }
  TROUPE_CHECK(sink.ask_blocking<&Sink::expect>(kSources * messages_of_each, kPatience).ok());
  const auto start = std::chrono::steady_clock::now();
  for (const auto& source : sources) TROUPE_CHECK(source.try_tell<&Source::send>(messages_of_each).ok());
  TROUPE_CHECK(sink.ask_blocking<&Sink::all>(kPatience).ok());
  return static_cast<double>(kSources * messages_of_each) / seconds_since(start);
}

Status measure_local_actors(double scale, Figures& figures) {
  const auto count = [&](double messages) { return static_cast<int64_t>(std::max(1.0, messages * scale)); };
  TROUPE_TRY(figures.add({"the core's speed, dependent additions", "10^9/s", kNoGoal, true}, core_ghz));
  TROUPE_TRY(figures.add({"same-thread message", "ns", at_most(40)}, [&] { return ping_pong(count(5e5), 1) * 1e9; }));
  TROUPE_TRY(figures.add({"same-thread message, handler no coroutine", "ns", at_most(40)},
                         [&] { return play<PlainPlayer>(count(5e5), 1) * 1e9; }));
  TROUPE_TRY(figures.add({"same-thread ask", "ns"}, [&] { return asks(count(3e5), 1) * 1e9; }));
  TROUPE_TRY(figures.add({"cross-thread ask", "us", at_most(3)}, [&] { return asks(count(5e4), 2) * 1e6; }));
  TROUPE_TRY(figures.add({"ping-pong on one thread", "messages/s", kNoGoal, true},
                         [&] { return 1 / ping_pong(count(5e5), 1); }));
  TROUPE_TRY(
      figures.add({"fan-in 4 to 1 on one thread", "messages/s", kNoGoal, true}, [&] { return fan_in(count(2e5), 1); }));
  TROUPE_TRY(figures.add({"fan-in 4 to 1 across two threads", "messages/s", kNoGoal, true},
                         [&] { return fan_in(count(2e5), 2); }));
  TROUPE_TRY(figures.add({"idle actor", "bytes", at_most(512)}, 1, [&] { return idle_bytes(20'000); }));
  for (const int loops : {1, 2}) {
    ThreadedNode node({}, loops);
    std::vector<Ref<Echo>> ranks;
    for (int i = 0; i < 1000; ++i) ranks.push_back(node->spawn<Echo>({.name = "rank", .loop = i % loops}));
    const auto head = node->spawn<Head>({.name = "head"}, MeshRef<Echo>(std::move(ranks)));
    const std::string name = fmt::format("broadcast and gather, 1000 ranks, {} thread{}", loops, loops == 1 ? "" : "s");
    TROUPE_TRY(figures.add({name, "ms", at_most(5)}, 35, [&] { return round_of(head) * 1e3; }));
  }
  return {};
}

}  // namespace troupe::launcher
