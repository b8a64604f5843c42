// The head between two generations, as a trace of messages: agent and ranks are played, the folder is real.
#include <stdexcept>

#include "actors/train/head_actor.h"
#include "runtime/actor/handoff.h"
#include "tests/unit/actor/message_trace.h"
#include "tests/unit/train/run_test.h"

namespace troupe::train {
namespace {

using namespace std::chrono_literals;

// In the order of TrainerActor's Protocol. A plan lasts until the test says how it ended.
class PlayedRank final : public actor::Actor {
 public:
  PlayedRank(actor::MessageTrace* trace, int rank) : trace_(*trace), rank_(rank) {}
  RankReady prepare(RankAssignment) { return {{}, 1000, "played"}; }
  RankLoaded load(CheckpointFolder from) {
    const std::string folder = from.folder.substr(from.folder.rfind('/') + 1);
    trace_.hear(fmt::format("rank {}: load {}", rank_, folder));
    return {{}, std::atoll(folder.c_str() + 5)};
  }
  actor::Task<Result<PlanReport>> run(StepPlan plan) {
    trace_.hear(fmt::format("rank {}: run steps {} to {}", rank_, plan.first_step, plan.last_step));
    const actor::Handoff<PlanReport> report;
    report_.emplace(report.sender());
    co_return co_await report.wait(actor::kNever);
  }
  using Protocol = actor::Methods<&PlayedRank::prepare, &PlayedRank::load, &PlayedRank::run>;

  void completes(int64_t step) { report_->set(PlanReport{{}, step, false}); }
  void dies(std::string why) { throw std::runtime_error(why); }

 private:
  actor::MessageTrace& trace_;
  const int rank_;
  std::optional<actor::Handoff<PlanReport>::Sender> report_;
};

// Its gang is there at once, and over when the test says so.
class PlayedAgent final : public AgentActor {
 public:
  using Ranks = std::vector<actor::Ref<PlayedRank>>;
  PlayedAgent(actor::MessageTrace* trace, actor::Node* host, Ranks* ranks)
      : trace_(*trace), host_(*host), ranks_(*ranks) {}
  actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) override {
    trace_.hear(fmt::format("agent: start {} ranks of generation {}", spec.ranks, spec.generation));
    ranks_.clear();
    std::vector<actor::Ref<TrainerActor>> trainers;
    for (int rank = 0; rank < spec.ranks; ++rank) {
      const std::string name = fmt::format("trainer-{}.g{}", rank, spec.generation);
      ranks_.push_back(host_.spawn<PlayedRank>({.name = name, .reentrant = true}, &trace_, rank));
      trainers.push_back(
          TROUPE_CO_TRY(node().ref<TrainerActor>({host_.options().id, ranks_.back().endpoint()->id(), name})));
    }
    co_return trainers;
  }
  actor::Task<void> kill_gang(std::string) override {
    trace_.hear("agent: kill");
    co_return;
  }
  actor::Task<Result<GangEnd>> end_gang() override {
    trace_.hear("agent: end");
    const actor::Handoff<GangEnd> end;
    end_.emplace(end.sender());
    co_return co_await end.wait(actor::kNever);
  }
  void nothing_is_left(std::string first) { end_->set(GangEnd{std::move(first), ""}); }

 private:
  actor::MessageTrace& trace_;
  actor::Node& host_;
  Ranks& ranks_;  // of the newest gang
  std::optional<actor::Handoff<GangEnd>::Sender> end_;
};

class HeadGenerations : public RunTest, protected actor::MessageTrace, protected RunObserver {
 protected:
  HeadGenerations() {
    TROUPE_CHECK(host_.node->listen(*host_.transport, "host").ok());
    head_node_.node->connect(*head_node_.transport, "host", [](Result<net::Peer> peer) { TROUPE_CHECK(peer.ok()); });
    advance(1ms);
  }
  // A run of 10 steps on two ranks, saved after every fourth.
  void begin(HeadOptions options = {}) {
    setup_ = setup(config() + "[checkpoint]\nevery = 4\n");
    folder_.emplace(RunFolder::take(files_, path("out"), true).value());
    agent_ = head_node_.node->spawn<PlayedAgent>({.name = "agent", .reentrant = true},
                                                 static_cast<actor::MessageTrace*>(this), host_.node.get(), &ranks_);
    head_ = head_node_.node->spawn<HeadActor>(
        {.name = "head", .reentrant = true},
        HeadContext{.setup = *setup_,
                    .folder = *folder_,
                    .observer = static_cast<RunObserver&>(*this),
                    .assignment = {.config = "", .config_path = "test.toml", .out = path("out")},
                    .config_json = "{}",
                    .ranks = 2,
                    .resume = false,
                    .clock = network.loop.clock(),
                    .options = options});
    ask<&HeadActor::run>(
        *head_node_.node, head_, 24h,
        [](const Result<RunEnd>& end) {
          return end.ok() ? fmt::format("the run ends after step {}", end->steps)
                          : "the run fails: " + end.error().message();
        },
        actor::Ref<AgentActor>(agent_.endpoint()));
  }
  void stepped(const MetricsLine& line) override { hear(fmt::format("counted: step {}", line.step)); }
  void warned(const std::string& message) override { hear("warning: " + message); }

  void expect_plan(int64_t first, int64_t last) {
    expect_all({fmt::format("rank 0: run steps {} to {}", first, last),
                fmt::format("rank 1: run steps {} to {}", first, last)});
  }
  void rank_0_tells_of(int64_t step, int64_t generation) {
    MetricsLine line;
    line.step = step;
    line.generation = generation;
    inject<&HeadActor::stepped>(head_, line);
  }
  void rank_0_stages(int64_t step, int64_t generation) {
    checkpoint::Manifest header;
    header.step = step;
    header.generation = generation;
    header.config = setup_->config;
    header.labels = setup_->labels();
    inject<&HeadActor::staged>(head_, folder_->checkpoints().stage(header, {}).value());
  }
  void plan_ends(int64_t step) {
    for (const auto& rank : ranks_) inject<&PlayedRank::completes>(rank, step);
  }
  // One after the other: the first is the cause.
  void lose_the_gang(const std::string& why) {
    inject<&PlayedRank::dies>(ranks_.at(1), why);
    expect("agent: kill");
    inject<&PlayedRank::dies>(ranks_.at(0), "rank 1 has gone");
    expect_all({"agent: kill", "agent: end"});
  }
  void nothing_is_left(const std::string& first = "") { inject<&PlayedAgent::nothing_is_left>(agent_, first); }
  bool saved(int64_t step) { return exists(path(fmt::format("out/checkpoints/step-{:08}", step))); }

  actor::Network::Process head_node_{network, "head", 1, {}, actor::Carrier::bytes};
  actor::Network::Process host_{network, "host", 2, {}, actor::Carrier::bytes};
  std::shared_ptr<RunSetup> setup_;
  std::optional<RunFolder> folder_;
  PlayedAgent::Ranks ranks_;
  actor::Ref<PlayedAgent> agent_;
  actor::Ref<HeadActor> head_;
};

TEST_F(HeadGenerations, TheNextOneStartsFromTheNewestCheckpointOnceNothingIsLeftOfTheLast) {
  begin();
  expect("agent: start 2 ranks of generation 0");
  expect_plan(1, 4);
  rank_0_tells_of(4, 0);
  expect("counted: step 4");
  rank_0_stages(4, 0);
  plan_ends(4);
  expect_plan(5, 8);
  lose_the_gang("luck");
  expect_silence(1s);  // something of it may still write
  nothing_is_left();
  expect(
      "warning: in PlayedRank::dies: luck, at step 5; "
      "generation 1 starts on 2 ranks from step 4");
  expect("agent: start 2 ranks of generation 1");
  expect_all({"rank 0: load step-00000004", "rank 1: load step-00000004"});
  expect_plan(5, 8);
}

TEST_F(HeadGenerations, WhatAnOlderOneSaysDoesNotCount) {
  begin();
  expect("agent: start 2 ranks of generation 0");
  expect_plan(1, 4);
  rank_0_tells_of(1, 0);
  expect("counted: step 1");
  lose_the_gang("luck");
  nothing_is_left("rank 1 (host host, pid 102) was killed by SIGKILL");
  expect(
      "warning: in PlayedRank::dies: luck, at step 2; "
      "generation 1 starts on 2 ranks from the beginning");
  expect("agent: start 2 ranks of generation 1");
  expect_plan(1, 4);
  rank_0_tells_of(2, 0);
  rank_0_stages(4, 0);
  expect_silence(1s);
  EXPECT_FALSE(saved(4));
  rank_0_tells_of(1, 1);
  expect("counted: step 1");
  rank_0_stages(4, 1);
  EXPECT_TRUE(saved(4));
}

TEST_F(HeadGenerations, TooManyLostWithinTheWindowEndTheRunWithTheFirstCause) {
  begin({.max_restarts = 1, .window = 10s});
  const auto lost = [](int64_t generation) {
    return fmt::format("in PlayedRank::dies: luck of generation {}, at step 1", generation);
  };
  const auto lose = [&](int64_t generation) {
    expect(fmt::format("agent: start 2 ranks of generation {}", generation));
    expect_plan(1, 4);
    lose_the_gang(fmt::format("luck of generation {}", generation));
    nothing_is_left();
  };
  lose(0);
  expect(fmt::format("warning: {}; generation 1 starts on 2 ranks from the beginning", lost(0)));
  advance(11s);  // the first is forgotten
  lose(1);
  expect(fmt::format("warning: {}; generation 2 starts on 2 ranks from the beginning", lost(1)));
  lose(2);
  expect(fmt::format("the run fails: 2 generations were lost within 10s: too many; the first: {}", lost(1)));
}

TEST_F(HeadGenerations, WhoseLeaseWasTakenSavesNothingAndEnds) {
  begin();
  expect("agent: start 2 ranks of generation 0");
  expect_plan(1, 4);
  std::filesystem::remove(path("out/.lock"));
  ASSERT_TRUE(RunFolder::take(files_, path("out"), true)->next_generation().ok());
  rank_0_stages(4, 0);
  plan_ends(4);
  expect("agent: end");
  nothing_is_left();
  expect(fmt::format("the run fails: {}: another run has begun generation 1 there; generation 0, this one's, is over",
                     path("out")));
  EXPECT_FALSE(saved(4));
}

}  // namespace
}  // namespace troupe::train
