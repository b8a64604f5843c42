// How much may be under way to an actor of another node, and that whatever ends gives back what it held.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/actor/cluster.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(RemoteFlow, AsksThatAreGivenUpInAFullMailboxGiveTheirPlaceBack) {
  Cluster cluster({.window = 4});
  const auto slow = cluster.b.node->spawn<Keeper>({.name = "slow", .mailbox = 1, .registered = "slow"});
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const Ref<Keeper> busy = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
    EXPECT_TRUE((co_await busy.tell<&Keeper::slow>(600'000)).ok());
    (void)co_await self.sleep(1ms);
    EXPECT_TRUE((co_await busy.tell<&Keeper::slow>(1)).ok());
    for (int i = 0; i < 600; ++i) EXPECT_FALSE((co_await busy.ask<&Keeper::slow>(1, 10ms)).ok());
    EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(1s)).ok());
    (void)co_await self.sleep(600s);
    EXPECT_TRUE((co_await busy.ask<&Keeper::words>(1s)).ok());
  }));
}

TEST(RemoteFlow, ASlowActorHoldsUpNobodyElse) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Cluster cluster({.window = 16}, carrier);
    cluster.b.node->spawn<Keeper>({.name = "slow", .mailbox = 1, .registered = "slow"});
    EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
      const Ref<Keeper> keeper = co_await cluster.find(self);
      const Ref<Keeper> slow = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
      self.spawn<Script>({.name = "eager"}, [slow](Script&) -> Task<void> {
        for (int i = 0; i < 3000; ++i) (void)co_await slow.tell<&Keeper::slow>(600'000);
      });
      (void)co_await self.sleep(1s);
      EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(10ms)).ok());
      EXPECT_TRUE((co_await keeper.tell<&Keeper::keep>(Note{"a", 1})).ok());
      EXPECT_FALSE(slow.try_tell<&Keeper::slow>(1).ok());
      EXPECT_EQ((co_await keeper.ask<&Keeper::words>(10ms)).value(), "a");
    }));
  }
}

TEST(RemoteFlow, BytesAreBoundedLikeMessages) {
  Cluster cluster({.window_bytes = int64_t{1} << 30}, Carrier::bytes);
  std::span<std::byte> bytes;
  const wire::Buffer buffer = wire::Buffer::allocate(size_t{20} << 20, &bytes);
  cluster.b.node->spawn<Keeper>({.name = "slow", .registered = "slow"});
  int64_t arrived = 0;
  cluster.wires.on_frame([&](const net::SimulatedFrame& frame) { arrived += frame.body.bytes(); });
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> slow = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
    EXPECT_TRUE((co_await slow.tell<&Keeper::slow>(10'000)).ok());
    for (int i = 0; i < 10; ++i) EXPECT_TRUE((co_await slow.tell<&Keeper::echo>(buffer)).ok());
    (void)co_await self.sleep(5s);
    EXPECT_GE(arrived, int64_t{64} << 20);
    EXPECT_LE(arrived, int64_t{64} << 20 | int64_t{21} << 20);
    (void)co_await self.sleep(10s);
    EXPECT_GE(arrived, int64_t{200} << 20);
  }));
}

TEST(RemoteFlow, ACancelDoesNotOvertakeItsQuestion) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Cluster cluster({}, carrier);
    Ref<Keeper> keeper;
    EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> { keeper = co_await cluster.find(self); }));
    const auto script = cluster.a.node->spawn<Script>({.name = "fickle"});
    cluster.loop.run_until_idle();
    EXPECT_TRUE(script
                    .try_tell<&Script::run>([&](Script&) -> Task<void> {
                      EXPECT_FALSE((co_await keeper.ask<&Keeper::keep>(Note{"a", 1}, 1s)).ok());
                    })
                    .ok());
    script.stop("never mind");
    cluster.loop.advance(1s);
    EXPECT_TRUE(
        cluster.run([&](Script&) -> Task<void> { EXPECT_EQ((co_await keeper.ask<&Keeper::words>(1s)).value(), ""); }));
  }
}

TEST(RemoteFlow, APeerThatCallsOffQuestionsWithoutEndIsCutOff) {
  Network network;
  Network::Process b(network, "b", 2, {}, Carrier::bytes);
  const net::LocalNode stranger(net::Peer{7, "stranger", "host", 1, 1}, "build", "token");
  const auto transport = network.make_transport(stranger, {}, Carrier::bytes);
  ASSERT_TRUE(b.node->listen(*b.transport, "b").ok());
  std::unique_ptr<net::Link> link;
  std::string closed;
  transport->connect("b", [&](Result<std::unique_ptr<net::Link>> made) {
    link = std::move(made).value();
    link->start({[](const net::Parcel&) {}, {}, [&](const Error& why) { closed = why.message(); }});
  });
  network.settle(Carrier::bytes);
  ASSERT_NE(link, nullptr);
  int64_t sent = 0;
  for (uint64_t question = 1000; closed.empty() && sent < 1'000'000; ++question) {
    net::Parcel cancel;
    cancel.header.kind = wire::FrameKind::system;
    cancel.header.ask = question;
    ASSERT_TRUE(link->send(cancel));
    if (++sent % 1000 == 0) network.loop.advance(10ms);
  }
  EXPECT_THAT(closed, HasSubstr("node stranger sent what it may not: cancels of questions that do not come"));
  EXPECT_TRUE(b.node->peers().empty());
}

TEST(RemoteFlow, WhatWasToldBeforeANodeStopsArrives) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Cluster cluster({.window = 4}, carrier);
    EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
      const Ref<Keeper> keeper = co_await cluster.find(self);
      for (int i = 0; i < 900; ++i) EXPECT_TRUE(keeper.try_tell<&Keeper::keep>(Note{"a", 1}).ok());
    }));
    bool stopped = false;
    cluster.a.node->stop("done", [&] { stopped = true; });
    cluster.loop.advance(2s);
    EXPECT_TRUE(stopped);
    std::string words;
    cluster.b.node->spawn<Script>(
        {}, [&](Script&) -> Task<void> { words = (co_await cluster.keeper.ask<&Keeper::words>(1s)).value(); });
    cluster.loop.run_until_idle();
    EXPECT_EQ(words.size(), 900u);
  }
}

TEST(RemoteFlow, AStopWaitsASecondForAPeerThatTakesNothing) {
  Cluster cluster({}, Carrier::bytes);
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    EXPECT_TRUE(keeper.try_tell<&Keeper::slow>(1'000'000).ok());
    for (int i = 0; i < 900; ++i) EXPECT_TRUE(keeper.try_tell<&Keeper::keep>(Note{"a", 1}).ok());
  }));
  const auto begun = cluster.loop.clock().now();
  bool stopped = false;
  cluster.a.node->stop("done", [&] { stopped = true; });
  while (!stopped && cluster.loop.advance_to_next()) {
  }
  EXPECT_GE(cluster.loop.clock().now() - begun, 1s);
  EXPECT_LE(cluster.loop.clock().now() - begun, 2100ms);
}

TEST(RemoteFlow, WhatCannotBeCarriedFailsAloneAndTheLinkStays) {
  Cluster cluster({.max_frame_bytes = 4096}, Carrier::bytes);
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const std::string large(5000, 'x'), half(2500, 'x');
    EXPECT_THAT((co_await keeper.ask<&Keeper::keep>(Note{large, 1}, 1s)).error().message(),
                HasSubstr("Keeper::keep to keeper: a message of 50"));
    EXPECT_THAT((co_await keeper.ask<&Keeper::keep>(Note{"cannot be encoded", 1}, 1s)).error().message(),
                HasSubstr("no ink"));
    EXPECT_THAT((co_await keeper.ask<&Keeper::keep>(Note{"cannot be decoded", 1}, 1s)).error().message(),
                HasSubstr("no glasses"));
    EXPECT_TRUE((co_await keeper.tell<&Keeper::keep>(Note{large, 1})).ok());
    EXPECT_TRUE((co_await keeper.tell<&Keeper::keep>(Note{"cannot be decoded", 1})).ok());
    EXPECT_TRUE((co_await keeper.ask<&Keeper::keep>(Note{half, 1}, 1s)).ok());
    EXPECT_TRUE((co_await keeper.ask<&Keeper::keep>(Note{half, 1}, 1s)).ok());
    EXPECT_THAT((co_await keeper.ask<&Keeper::words>(1s)).error().message(), HasSubstr("the limit is 4096"));
    EXPECT_EQ((co_await keeper.ask<&Keeper::keep>(Note{"a", 1}, 1s)).value(), 5001);
  }));
  ASSERT_EQ(cluster.a.dropped.size(), 1u);
  EXPECT_THAT(cluster.a.dropped[0], HasSubstr("the limit is 4096"));
  ASSERT_EQ(cluster.b.dropped.size(), 1u);
  EXPECT_THAT(cluster.b.dropped[0], HasSubstr("no glasses"));
}

TEST(RemoteFlow, NobodyIsKeptByWhomItWatchedOrMet) {
  Cluster cluster;
  std::vector<Ref<Script>> watchers;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    for (int i = 0; i < 3; ++i) {
      watchers.push_back(self.spawn<Script>({.name = fmt::format("{}", i)}, [keeper](Script& me) -> Task<void> {
        me.watch<&Script::down>(keeper);
        co_return;
      }));
    }
    (void)co_await self.sleep(1ms);
    for (const auto& watcher : watchers) (void)co_await self.stop_and_join(watcher, "enough", 1s);
    (void)co_await self.sleep(1ms);
    for (const auto& watcher : watchers) EXPECT_TRUE(watcher.endpoint()->unique());
  }));
}

TEST(RemoteFlow, AnAddressOfThisNodeIsCheckedForItsType) {
  Cluster cluster;
  const Address address = cluster.keeper.address();
  EXPECT_TRUE(cluster.b.node->ref<Keeper>(address).ok());
  EXPECT_EQ(cluster.b.node->ref<Script>(address).error().message(), "keeper is not of the type that was asked for");
}

TEST(RemoteFlow, ARefMayOutliveEverything) {
  Ref<Keeper> here, there;
  {
    Cluster cluster;
    EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> { there = co_await cluster.find(self); }));
    here = cluster.keeper;
  }
  for (const auto& ref : {here, there}) {
    EXPECT_FALSE(ref.try_tell<&Keeper::ends>().ok());
    EXPECT_FALSE(ref.ask_blocking<&Keeper::words>(1s).ok());
    ref.stop("late");
  }
}

}  // namespace
}  // namespace troupe::actor
