// The network in virtual time: what its faults do to links, and that a seed says all.
#include "runtime/net/simulated.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/actor/simulated_thread.h"
#include "runtime/base/check.h"

namespace troupe::net {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using wire::FrameKind;

struct TestProcess {
  TestProcess(actor::SimulatedLoop& loop, SimulatedNetwork& network, uint64_t id, const std::string& name,
              const LinkOptions& options)
      : thread(loop),
        local(Peer{id, name, "host", 1, 1}, "build", "token"),
        transport(network, thread, local, options) {}
  // From now on what comes is kept.
  void use(std::unique_ptr<Link> started) {
    link = std::move(started);
    link->start({[this](const Parcel& parcel) {
                   received.push_back(parcel.header.ask);
                   link->release(1);
                 },
                 {},
                 [this](const Error& why) { closed = why.message(); }});
  }
  void say(uint64_t number) {
    Parcel parcel;
    parcel.header.ask = number;
    TROUPE_CHECK(link->send(parcel));
  }
  actor::SimulatedThread thread;
  LocalNode local;
  SimulatedTransport transport;
  std::unique_ptr<Link> link;
  std::vector<uint64_t> received;
  std::string closed;
};

// a has dialed b.
struct Pair {
  explicit Pair(uint64_t seed = 1, const LinkOptions& of_a = {}, const LinkOptions& of_b = {})
      : network(loop, seed), a(loop, network, 1, "a", of_a), b(loop, network, 2, "b", of_b) {
    network.set({.delay = 1ms, .jitter = 1ms});
    TROUPE_CHECK(b.transport.listen("b", [this](auto link) { b.use(std::move(link)); }).ok());
    a.transport.connect("b", [this](auto link) { a.use(std::move(link).value()); });
    loop.advance(10ms);
    TROUPE_CHECK(a.link && b.link);
  }
  void say(uint64_t first, uint64_t last) {
    for (uint64_t number = first; number <= last; ++number) {
      a.say(number);
      loop.advance(100us);
    }
  }
  actor::SimulatedLoop loop;
  SimulatedNetwork network;
  TestProcess a, b;
};

std::vector<uint64_t> numbers(uint64_t last) {
  std::vector<uint64_t> all;
  for (uint64_t number = 1; number <= last; ++number) all.push_back(number);
  return all;
}

TEST(Simulated, NodesOfDifferentPatienceKeepTheirLinkAndNoticeADeathAsSoonAsEachSaid) {
  LinkOptions hasty, calm, silent;
  hasty.heartbeat_every = 100ms;
  hasty.silence_limit = 500ms;
  calm.heartbeat_every = 2s;
  calm.silence_limit = 10s;
  silent.heartbeat_every = 0ms;
  silent.silence_limit = 200ms;
  for (const LinkOptions& other : {calm, silent}) {
    Pair pair(1, hasty, other);
    pair.loop.advance(60s);
    EXPECT_EQ(pair.a.closed, "");
    EXPECT_EQ(pair.b.closed, "");
    pair.b.thread.hold();
    pair.loop.advance(800ms);
    EXPECT_THAT(pair.a.closed, HasSubstr("no sign of life from b for 0.5 s"));
  }
  Pair pair(1, silent, calm);
  pair.loop.advance(60s);
  EXPECT_EQ(pair.a.closed, "") << "which has no patience for two heartbeats of its own";
}

TEST(Simulated, JitterKeepsTheOrder) {
  Pair pair;
  pair.say(1, 100);
  pair.loop.advance(1s);
  EXPECT_EQ(pair.b.received, numbers(100));
  EXPECT_EQ(pair.network.counters().messages, 100);
}

TEST(Simulated, WhatIsLostDoubledOrOvertakenIsNoticedByTheNextFrame) {
  const std::vector<std::pair<SimulatedConditions, const char*>> faults{
      {{.delay = 1ms, .dropped = 1}, "of a came where"},
      {{.delay = 1ms, .doubled = 1}, "of a came where"},
      {{.delay = 1ms, .overtaken = 1}, "of a came where"}};
  for (const auto& [conditions, said] : faults) {
    Pair pair;
    pair.say(1, 5);
    pair.loop.advance(10ms);
    pair.network.set(conditions);
    pair.say(6, 6);
    pair.network.set({.delay = 1ms});
    pair.say(7, 8);
    pair.loop.advance(10ms);
    EXPECT_THAT(pair.b.closed, HasSubstr(said));
    EXPECT_EQ(pair.b.received, numbers(pair.b.received.size()));
    EXPECT_LT(pair.b.received.size(), 9u);
    EXPECT_EQ(pair.a.closed, "b closed the link");
    const SimulatedCounters& counters = pair.network.counters();
    EXPECT_EQ(counters.dropped + counters.doubled + counters.overtaken, 1);
  }
}

TEST(Simulated, AShortCutDelaysAndALongOneIsNoticedOnBothSides) {
  Pair pair;
  pair.network.cut(1, 2);
  pair.network.cut(2, 1);
  pair.say(1, 10);
  pair.loop.advance(3s);
  EXPECT_TRUE(pair.b.received.empty());
  pair.network.mend_all();
  pair.say(11, 20);
  pair.loop.advance(100ms);
  EXPECT_EQ(pair.b.received, numbers(20));
  pair.network.cut(1, 2);
  pair.loop.advance(6s);
  EXPECT_THAT(pair.b.closed, HasSubstr("no sign of life from a"));
  pair.loop.advance(1s);
  EXPECT_EQ(pair.a.closed, "b closed the link");  // the other way was open
}

TEST(Simulated, ADeadProcessIsSeenAtOnceAndADeadMachineByItsSilence) {
  for (const auto death : {SimulatedNetwork::Death::of_process, SimulatedNetwork::Death::of_machine}) {
    const bool machine = death == SimulatedNetwork::Death::of_machine;
    Pair pair;
    pair.network.kill(2, death);
    pair.b.thread.hold();
    pair.loop.advance(10ms);
    EXPECT_EQ(pair.a.closed, machine ? "" : "b closed the link");
    pair.loop.advance(6s);
    EXPECT_THAT(pair.a.closed, machine ? HasSubstr("no sign of life from b") : HasSubstr("b closed the link"));
    EXPECT_EQ(pair.b.closed, "");
    std::string refused;
    pair.a.transport.connect("b", [&](auto link) { refused = link.error().message(); });
    pair.loop.advance(6s);
    EXPECT_EQ(refused, machine ? "b: no answer within 5.0 s" : "b: connection refused");
  }
}

TEST(Simulated, ANodeThatIsHeldIsGivenTimeToHearWhatCame) {
  Pair pair;
  pair.b.thread.hold();
  pair.say(1, 10);
  pair.loop.advance(4s);
  EXPECT_TRUE(pair.b.received.empty());
  pair.b.thread.go_on();
  pair.loop.advance(3s);
  EXPECT_EQ(pair.b.received, numbers(10));
  EXPECT_EQ(pair.a.closed + pair.b.closed, "");
  pair.b.thread.hold();
  pair.loop.advance(6s);
  EXPECT_THAT(pair.a.closed, HasSubstr("no sign of life from b"));
}

TEST(Simulated, TheSameSeedIsTheSameRunToTheFrame) {
  const auto run = [](uint64_t seed) {
    Pair pair(seed);
    std::string frames;
    pair.network.on_frame([&](const SimulatedFrame& frame) {
      frames += fmt::format("{} {} {}→{} {}\n", frame.time.count(), static_cast<int>(frame.fate), frame.from, frame.to,
                            frame.header.sequence);
    });
    pair.network.set({.delay = 1ms, .jitter = 1ms, .dropped = 0.01});
    pair.say(1, 50);
    pair.loop.advance(10s);
    return std::pair(pair.network.fingerprint(), frames);
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7).first, run(8).first);
  EXPECT_NE(run(7).second, run(8).second);
}

}  // namespace
}  // namespace troupe::net
