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

template <class Measure>
ActorFigure figure(std::string name, std::string unit, double goal, int repetitions, bool is_rate, Measure measure) {
  std::vector<double> values;
  measure();  // warm
  for (int i = 0; i < repetitions; ++i) values.push_back(measure());
  std::ranges::sort(values);
  return {std::move(name), std::move(unit), values[values.size() / 2], is_rate ? values.back() : values.front(), goal,
          repetitions};
}

double ping_pong(int64_t throws, int loops) {
  ThreadedNode node({}, loops);
  const auto first = node->spawn<Player>({.name = "first", .reentrant = true});
  const auto second = node->spawn<Player>({.name = "second", .loop = loops - 1});
  TROUPE_CHECK(second.ask_blocking<&Player::meet>(first, kPatience).ok());
  TROUPE_CHECK(first.ask_blocking<&Player::meet>(second, kPatience).ok());
  return first.ask_blocking<&Player::play>(throws, kPatience).value() / static_cast<double>(2 * throws);
}

double asks(int64_t count, int loops) {
  ThreadedNode node({}, loops);
  const auto echo = node->spawn<Echo>({.name = "echo", .loop = loops - 1});
  const auto asker = node->spawn<Asker>({.name = "asker"}, echo);
  return asker.ask_blocking<&Asker::asks>(count, kPatience).value() / static_cast<double>(count);
}

double fan_in(int64_t messages, int loops) {
  constexpr int kSources = 4;
  ThreadedNode node({}, loops);
  const auto sink = node->spawn<Sink>({.name = "sink", .reentrant = true});
  std::vector<Ref<Source>> sources;
  for (int i = 0; i < kSources; ++i) {
    sources.push_back(node->spawn<Source>({.name = "source", .loop = loops - 1}, sink));
  }
  TROUPE_CHECK(sink.ask_blocking<&Sink::expect>(kSources * messages, kPatience).ok());
  const auto start = std::chrono::steady_clock::now();
  for (const auto& source : sources) TROUPE_CHECK(source.try_tell<&Source::send>(messages).ok());
  TROUPE_CHECK(sink.ask_blocking<&Sink::all>(kPatience).ok());
  return static_cast<double>(kSources * messages) / seconds_since(start);
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

double round_of(const Ref<Head>& head) { return head.ask_blocking<&Head::round>(kPatience).value(); }

}  // namespace

std::vector<ActorFigure> measure_local_actors(const ActorMeasureOptions& options) {
  const auto count = [&](double messages) { return static_cast<int64_t>(std::max(1.0, messages * options.scale)); };
  const int n = options.repetitions;
  std::vector<ActorFigure> figures;
  figures.push_back(figure("same-thread message", "ns", 40, n, false, [&] { return ping_pong(count(5e5), 1) * 1e9; }));
  figures.push_back(figure("same-thread ask", "ns", 0, n, false, [&] { return asks(count(3e5), 1) * 1e9; }));
  figures.push_back(figure("cross-thread ask", "us", 3, n, false, [&] { return asks(count(5e4), 2) * 1e6; }));
  figures.push_back(
      figure("ping-pong on one thread", "messages/s", 0, n, true, [&] { return 1 / ping_pong(count(5e5), 1); }));
  figures.push_back(
      figure("fan-in 4 to 1 on one thread", "messages/s", 0, n, true, [&] { return fan_in(count(2e5), 1); }));
  figures.push_back(
      figure("fan-in 4 to 1 across two threads", "messages/s", 0, n, true, [&] { return fan_in(count(2e5), 2); }));
  figures.push_back(figure("idle actor", "bytes", 512, 1, false, [&] { return idle_bytes(20'000); }));
  for (const int loops : {1, 2}) {
    ThreadedNode node({}, loops);
    std::vector<Ref<Echo>> ranks;
    for (int i = 0; i < 1000; ++i) ranks.push_back(node->spawn<Echo>({.name = "rank", .loop = i % loops}));
    const auto head = node->spawn<Head>({.name = "head"}, MeshRef<Echo>(std::move(ranks)));
    figures.push_back(figure(
        loops == 1 ? "broadcast and gather, 1000 ranks, one thread" : "broadcast and gather, 1000 ranks, two threads",
        "ms", 5, 5 * n, false, [&] { return round_of(head) * 1e3; }));
  }
  return figures;
}

}  // namespace troupe::launcher
