// Actors on several real threads, and plain threads that talk to them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "runtime/actor/handoff.h"
#include "runtime/actor/mesh_ref.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kPatience = 20s;

struct Numbered {
  int sender = 0, number = 0;
};

class Sink : public Actor {
 public:
  explicit Sink(int senders) : last_(static_cast<size_t>(senders), -1) {}
  void take(Numbered message) {
    in_order_ = in_order_ && last_[static_cast<size_t>(message.sender)] == message.number - 1;
    last_[static_cast<size_t>(message.sender)] = message.number;
    ++count_;
  }
  int64_t count() const { return in_order_ ? count_ : -1; }
  void fails(std::string why) { throw std::runtime_error(why); }
  Task<void> blocks(std::shared_future<void> until) {
    until.wait();
    co_return;
  }

 private:
  std::vector<int> last_;
  int64_t count_ = 0;
  bool in_order_ = true;
};

class Source : public Actor {
 public:
  Source(Ref<Sink> sink, int number) : sink_(sink), number_(number) {}
  Task<int> send(int messages) {
    for (int i = 0; i < messages; ++i) {
      const Status sent = co_await sink_.tell<&Sink::take>(Numbered{number_, i});
      if (!sent.ok()) co_return i;
    }
    co_return messages;
  }

 private:
  Ref<Sink> sink_;
  int number_;
};

TEST(Threads, EachPairKeepsItsOrderThroughAFullMailbox) {
  constexpr int kSources = 6, kMessages = 20'000;
  ThreadedNode node({}, 3);
  const auto sink = node->spawn<Sink>({.loop = 0, .mailbox = 16}, kSources);
  std::vector<Ref<Source>> sources;
  for (int i = 0; i < kSources; ++i) {
    sources.push_back(node->spawn<Source>({.name = fmt::format("source {}", i), .loop = i % 3}, sink, i));
  }
  std::vector<std::thread> threads;
  for (const auto& source : sources) {
    threads.emplace_back(
        [&] { EXPECT_EQ(source.ask_blocking<&Source::send>(kMessages, kPatience).value(), kMessages); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sink.ask_blocking<&Sink::count>(kPatience).value(), kSources * kMessages);
  EXPECT_TRUE(node->stop_blocking(kPatience).ok());
}

TEST(Threads, PlainThreadsTellInOrderToo) {
  constexpr int kThreads = 3, kMessages = 3'000;
  ThreadedNode node({}, 1);
  const auto sink = node->spawn<Sink>({.mailbox = 1 << 20}, kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kMessages; ++i) EXPECT_TRUE(sink.try_tell<&Sink::take>(Numbered{thread, i}).ok());
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sink.ask_blocking<&Sink::count>(kPatience).value(), kThreads * kMessages);
}

TEST(Threads, AnActorThatDiesUnderFireAnswersEveryone) {
  for (int round = 0; round < 30; ++round) {
    ThreadedNode node({.name = "n"}, 2);
    const auto sink = node->spawn<Sink>({.name = "sink", .loop = 0, .mailbox = 4}, 4);
    std::vector<std::thread> threads;
    std::atomic<int> begun{0};
    for (int i = 0; i < 3; ++i) {
      const auto source = node->spawn<Source>({.name = fmt::format("source {}", i), .loop = i % 2}, sink, i);
      threads.emplace_back([&, source] {
        ++begun;
        EXPECT_LT(source.ask_blocking<&Source::send>(1 << 30, kPatience).value(), 1 << 30);
      });
    }
    while (begun < 3) std::this_thread::yield();
    EXPECT_THAT(sink.ask_blocking<&Sink::fails>("shot", kPatience).error().message(), HasSubstr("shot"));
    for (auto& thread : threads) thread.join();
    EXPECT_TRUE(node->stop_blocking(kPatience).ok());
    EXPECT_EQ(node->living(), 0);
  }
}

TEST(Threads, AHandoffBringsValuesFromAPlainThread) {
  // As a trainer does: its actor posts plans to a thread and forwards what comes back.
  class Shell : public Actor {
   public:
    Task<Result<int>> run(int plan) {
      Handoff<int> done;
      worker_ = std::thread([plan, sender = done.sender()] { sender.set(plan * 2); });
      auto result = co_await done.wait(kPatience);
      worker_.join();
      co_return result;
    }
    std::thread worker_;
  };
  ThreadedNode node({});
  const auto shell = node->spawn<Shell>({});
  for (int i = 0; i < 200; ++i) EXPECT_EQ(shell.ask_blocking<&Shell::run>(i, kPatience).value(), 2 * i);
}

TEST(Threads, AHandlerThatBlocksItsThreadIsNamed) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  ThreadedNode node({.name = "n"}, 2);
  const auto sink = node->spawn<Sink>({.name = "sink", .loop = 1}, 1);
  EXPECT_TRUE(sink.try_tell<&Sink::blocks>(released).ok());
  EXPECT_THAT(sink.ask_blocking<&Sink::count>(10ms).error().message(), HasSubstr("no answer of sink to Sink::count"));
  const Status stopped = node->stop_blocking(10ms);
  EXPECT_THAT(stopped.error().message(), HasSubstr("node n has not stopped within 0.01 s"));
  EXPECT_THAT(stopped.error().message(), HasSubstr("loop 1 does not answer within 1 s: it runs Sink::blocks of sink"));
  release.set_value();
  EXPECT_TRUE(node->stop_blocking(kPatience).ok());
}

TEST(Threads, AMeshOfAThousandRanksOnTwoThreads) {
  ThreadedNode node({}, 2);
  std::vector<Ref<Sink>> ranks;
  for (int i = 0; i < 1000; ++i)
    ranks.push_back(node->spawn<Sink>({.name = fmt::format("rank {}", i), .loop = i % 2}, 1));
  class Head : public Actor {
   public:
    explicit Head(MeshRef<Sink> ranks) : ranks_(std::move(ranks)) {}
    Task<Result<int64_t>> round(int number) {
      TROUPE_CO_TRY(co_await ranks_.tell<&Sink::take>(Numbered{0, number}));
      co_return co_await ranks_.reduce<&Sink::count>(std::plus<>(), kPatience);
    }
    MeshRef<Sink> ranks_;
  };
  const auto head = node->spawn<Head>({}, MeshRef<Sink>(ranks));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(head.ask_blocking<&Head::round>(i, kPatience).value(), 1000 * (i + 1));
  EXPECT_TRUE(node->stop_blocking(kPatience).ok());
}

TEST(Threads, NodesStartAndStopOverAndOver) {
  for (int round = 0; round < 200; ++round) {
    ThreadedNode node({}, 2);
    const auto sink = node->spawn<Sink>({.loop = 1}, 1);
    const auto source = node->spawn<Source>({.loop = 0}, sink, 0);
    EXPECT_TRUE(source.try_tell<&Source::send>(round * 10).ok());
    if (round % 2 == 0) EXPECT_TRUE(node->stop_blocking(kPatience).ok());
  }
}

}  // namespace
}  // namespace troupe::actor
