// The agent of ranks that are processes, on a host that is played.
#include "actors/train/process_agent_actor.h"

#include <gmock/gmock.h>
#include <signal.h>

#include "actors/train/head_actor.h"
#include "tests/unit/actor/message_trace.h"

namespace troupe::train {
namespace {

using namespace std::chrono_literals;

// What the host of a gang is told, and what it says.
struct PlayedHost {
  actor::MessageTrace& trace;
  std::deque<RankEnd> reports = {};
  bool over = false;  // nothing is left of the gang at hand
};

class PlayedGang final : public GangProcesses {
 public:
  PlayedGang(PlayedHost& host, int64_t generation) : host_(host), generation_(generation) {}
  bool joined(int, pid_t) override { return true; }
  std::optional<RankEnd> next_end() override {
    if (host_.reports.empty()) return std::nullopt;
    RankEnd end = host_.reports.front();
    host_.reports.pop_front();
    return end;
  }
  std::optional<GangEnd> launcher_end() override {
    return host_.over ? std::optional(GangEnd{"mpirun exited", ""}) : std::nullopt;
  }
  void kill() override { host_.trace.hear(fmt::format("host: kill generation {}", generation_)); }
  bool gone() override { return host_.over; }

 private:
  PlayedHost& host_;
  const int64_t generation_;
};

class PlayedLauncher final : public GangLauncher {
 public:
  explicit PlayedLauncher(PlayedHost& host) : host_(host) {}
  Result<std::unique_ptr<GangProcesses>> start(int ranks, int64_t generation) override {
    host_.over = false;
    host_.trace.hear(fmt::format("host: start {} ranks of generation {}", ranks, generation));
    return std::unique_ptr<GangProcesses>(new PlayedGang(host_, generation));
  }

 private:
  PlayedHost& host_;
};

class ProcessAgent : public testing::Test, protected actor::MessageTrace {
 protected:
  // Two ranks, of which none will come up; whoever asked for them waits no longer.
  void start_gang(int64_t generation) {
    ask<&AgentActor::start_gang>(
        *head_.node, agent_, 1ms, [](const auto&) { return "start_gang: given up"; }, GangSpec{2, generation, {}});
    expect(fmt::format("host: start 2 ranks of generation {}", generation));
    expect("start_gang: given up");
  }
  void end_gang() {
    ask<&AgentActor::end_gang>(*head_.node, agent_, 30s, [](const Result<GangEnd>& end) {
      return "end_gang: " + (end.ok() ? "over; " + end->first : end.error().message());
    });
  }

  actor::Network::Process head_{network, "head", 1, {}, actor::Carrier::bytes};
  PlayedHost host_{*this};
  const actor::Ref<AgentActor> agent_{head_.node
                                          ->spawn<ProcessAgentActor>({.name = "agent", .reentrant = true},
                                                                     std::make_unique<PlayedLauncher>(host_),
                                                                     head_.local)
                                          .endpoint()};
};

TEST_F(ProcessAgent, AGangIsOverWhenNothingOfItIsLeft) {
  start_gang(1);
  inject<&AgentActor::kill_gang>(agent_, "rank 1 was lost");
  end_gang();
  expect_silence(200ms);  // a keeper may know more
  advance(50ms);
  expect("host: kill generation 1");
  expect_silence(20s);
  host_.over = true;
  expect("end_gang: over; ");
}

TEST_F(ProcessAgent, TheRankThatEndedFirstIsNamedWhoeverIsHeardFirst) {
  start_gang(1);
  inject<&AgentActor::kill_gang>(agent_, "rank 1 was lost");
  host_.reports = {{1, 412, ProcessEnd{1, 0}, 20ms, "troupe: rank 0 has gone"},
                   {0, 411, ProcessEnd{0, SIGKILL}, 10ms, ""}};
  end_gang();
  expect("host: kill generation 1");
  host_.over = true;
  expect("end_gang: over; rank 0 (host host-head, pid 411) was killed by SIGKILL");
}

// The head told of a lost rank when the gang was ending anyway, and its next one starts at once.
TEST_F(ProcessAgent, AKillThatComesTooLateDoesNotReachTheNextGang) {
  start_gang(1);
  end_gang();
  advance(4500us);  // between two looks
  inject<&AgentActor::kill_gang>(agent_, "rank 1 was lost");
  host_.over = true;
  advance(500us);
  expect("host: kill generation 1");
  expect("end_gang: over; mpirun exited");
  start_gang(2);
  expect_silence(1s);
}

TEST_F(ProcessAgent, ARankOfAnotherGenerationIsNotAwaited) {
  start_gang(3);
  const auto joined = [&](int64_t generation) {
    ask<&ProcessAgentActor::joined>(
        *head_.node, actor::Ref<ProcessAgentActor>(agent_.endpoint()), 1s,
        [](const Result<void>& taken) { return taken.ok() ? "welcome" : "not awaited"; },
        RankJoined{1, generation, 411, 2, 7});
  };
  joined(2);
  expect("not awaited");
  joined(3);
  expect("welcome");
  joined(4);
  expect("not awaited");
}

}  // namespace
}  // namespace troupe::train
