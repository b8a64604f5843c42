// Actors on linked nodes: two simulated processes over inproc links in virtual time, and real threads over tcp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "runtime/actor/linking.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/net/tcp.h"
#include "tests/unit/actor/cluster.h"

namespace troupe::actor {

namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Remote, AsksAndTellsArriveInOrderAndErrorsComeBack) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    EXPECT_EQ(keeper.name(), "keeper");
    EXPECT_TRUE((co_await keeper.tell<&Keeper::keep>(Note{"a", 1})).ok());
    EXPECT_TRUE(keeper.try_tell<&Keeper::keep>(Note{"b", 1}).ok());
    EXPECT_EQ((co_await keeper.ask<&Keeper::keep>(Note{"c", 1}, 1s)).value(), 3);
    EXPECT_EQ((co_await keeper.ask<&Keeper::words>(1s)).value(), "abc");
    EXPECT_EQ((co_await keeper.ask<&Keeper::keep>(Note{"d", -7}, 1s)).error().message(), "-7 is negative");
  }));
}

TEST(Remote, NamesThatAreNotThereAreSaidSo) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    EXPECT_EQ((co_await lookup<Keeper>(self.node(), 2, "nobody", 1s)).error().message(),
              "no actor is registered as nobody on node b, host host-b, pid 102");
    EXPECT_THAT((co_await lookup<Script>(self.node(), 2, "keeper", 1s)).error().message(),
                HasSubstr("not of the type"));
    EXPECT_THAT((co_await lookup<Keeper>(self.node(), 3, "keeper", 1s)).error().message(),
                HasSubstr("no link to node 3"));
  }));
}

TEST(Remote, AMethodOutsideTheProtocolIsLocalOnly) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const char* said = "keeper is on another node, and Keeper::local_only is not in its actor's Protocol";
    EXPECT_EQ((co_await keeper.ask<&Keeper::local_only>(1, 1s)).error().message(), said);
    EXPECT_EQ((co_await keeper.tell<&Keeper::local_only>(1)).error().message(), said);
    EXPECT_EQ(keeper.try_tell<&Keeper::local_only>(1).error().message(), said);
  }));
}

TEST(Remote, DeadlinesTravelAndGivingUpStopsTheOneAsked) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    EXPECT_EQ((co_await keeper.ask<&Keeper::slow>(5, 1s)).value(), 5);
    const auto late = co_await keeper.ask<&Keeper::slow>(5000, 1s);
    EXPECT_THAT(late.error().message(), HasSubstr("Keeper::slow"));  // whichever side was first
    EXPECT_EQ((co_await keeper.ask<&Keeper::cut_short>(1s)).value(), 1);
  }));
}

TEST(Remote, DeathAnswersWithTheFirstCauseAndWatchersAreTold) {
  Cluster cluster;
  const std::string cause = "keeper (node b, host host-b, pid 102) failed: in Keeper::fails: out of luck";
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    self.watch<&Script::down>(keeper);
    EXPECT_TRUE((co_await keeper.tell<&Keeper::fails>("out of luck")).ok());
    EXPECT_THAT((co_await keeper.ask<&Keeper::words>(1s)).error().message(), HasSubstr(cause));
    (void)co_await self.sleep(1ms);
    EXPECT_THAT((co_await keeper.ask<&Keeper::words>(1s)).error().message(), HasSubstr(cause));
    EXPECT_THAT((co_await keeper.tell<&Keeper::keep>(Note{})).error().message(), HasSubstr(cause));
    self.watch<&Script::down>(keeper);
    (void)co_await self.sleep(1ms);
    std::vector<std::string> causes;
    for (const Down& down : self.downs) causes.push_back(down.cause->message());
    EXPECT_THAT(causes, ElementsAre(cause, cause));  // the second watch came too late, and was told at once
  }));
}

class Watcher : public Actor {
 public:
  explicit Watcher(Ref<Keeper> whom) : whom_(whom) {}
  Task<void> on_start() override {
    watch<&Watcher::down>(whom_);
    return {};
  }
  void down(Down down) { causes.push_back(down.cause->message()); }
  std::vector<std::string> all_causes() { return causes; }
  std::vector<std::string> causes;
  Ref<Keeper> whom_;
};

TEST(Remote, ANodeThatGoesEndsAsksWatchesAndTells) {
  Cluster cluster;
  Ref<Watcher> watcher;
  Ref<Keeper> keeper;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    keeper = co_await cluster.find(self);
    watcher = self.node().spawn<Watcher>({.name = "watcher"}, keeper);
    (void)co_await self.sleep(1ms);
    Timer kill = self.node().executor(0).loop().after(1s, [&] {
      cluster.b.node.reset();
      cluster.b.transport.reset();
    });
    const auto answer = co_await keeper.ask<&Keeper::slow>(50'000, 100s);
    EXPECT_EQ(self.now(), 1s + 1ms);
    EXPECT_THAT(answer.error().message(),
                HasSubstr("Keeper::slow was not answered by keeper: node b (host host-b, pid 102) was lost: "));
    EXPECT_THAT((co_await keeper.tell<&Keeper::keep>(Note{})).error().message(), HasSubstr("node b (host"));
    const auto told = co_await watcher.ask<&Watcher::all_causes>(1s);
    EXPECT_EQ(told->size(), 1u);
    EXPECT_THAT(told->at(0), HasSubstr("node b (host host-b, pid 102) was lost"));
    EXPECT_TRUE(self.node().peers().empty());
  }));
}

TEST(Remote, TheOtherSideStopsWorkingForANodeThatIsGone) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    self.spawn<Script>({.name = "asker"},
                       [keeper](Script&) -> Task<void> { (void)co_await keeper.ask<&Keeper::slow>(900'000, 1000s); });
    (void)co_await self.sleep(1s);
  }));
  cluster.a.node.reset();
  cluster.a.transport.reset();
  cluster.loop.run_until_idle();
  int cut_short = 0;
  cluster.b.node->spawn<Script>(
      {}, [&](Script&) -> Task<void> { cut_short = (co_await cluster.keeper.ask<&Keeper::cut_short>(1s)).value(); });
  cluster.loop.run_until_idle();
  EXPECT_EQ(cut_short, 1);
}

TEST(Remote, ASlowActorHoldsNoMoreThanItsMailboxAndTheWindow) {
  Cluster cluster({.window = 16});
  const auto slow = cluster.b.node->spawn<Keeper>({.name = "slow", .mailbox = 8, .registered = "slow"});
  constexpr int kMessages = 5000;
  int sent = 0;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
    for (int i = 0; i < kMessages; ++i) {
      EXPECT_TRUE((co_await keeper.tell<&Keeper::slow>(1)).ok());
      ++sent;
      if (i == 4000) {
        // One a millisecond is handled; the rest is here (1024), or under way and there (256).
        const auto handled = self.now() / 1ms;
        EXPECT_LE(sent - handled, 1024 + 256 + 3);
        EXPECT_GE(sent - handled, 1024);
      }
    }
    // An answer passes what waits for room.
    EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(100s)).ok());
  }));
}

TEST(Remote, AnswersGiveTheirCreditBack) {
  Cluster cluster({.window = 4});
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(1s)).ok());
  }));
}

TEST(Remote, MoreAnswersThanTheWindowAtOnceAllArrive) {
  Cluster cluster({.window = 2});
  cluster.b.node->spawn<Keeper>({.name = "both", .reentrant = true, .registered = "both"});
  int answered = 0;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = *co_await lookup<Keeper>(self.node(), 2, "both", 1s);
    for (int i = 0; i < 20; ++i) {
      self.spawn<Script>({.name = fmt::format("asker-{}", i)}, [keeper, &answered](Script&) -> Task<void> {
        answered += (co_await keeper.ask<&Keeper::slow>(100, 1s)).ok() ? 1 : 0;
      });
    }
    (void)co_await self.sleep(2s);
  }));
  EXPECT_EQ(answered, 20);
}

TEST(Remote, AnAskThatIsGivenUpBeforeItFoundRoomGivesItsCreditBack) {
  Cluster cluster({.window = 4});
  const auto slow = cluster.b.node->spawn<Keeper>({.name = "slow", .mailbox = 1, .registered = "slow"});
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = *co_await lookup<Keeper>(self.node(), 2, "slow", 1s);
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(keeper.try_tell<&Keeper::slow>(300).ok());  // one runs, one is the mailbox
    for (int i = 0; i < 8; ++i) {
      self.spawn<Script>({.name = fmt::format("asker-{}", i)}, [keeper](Script&) -> Task<void> {
        EXPECT_FALSE((co_await keeper.ask<&Keeper::words>(100ms)).ok());
      });
    }
    (void)co_await self.sleep(1s);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE((co_await keeper.ask<&Keeper::words>(1s)).ok());
  }));
}

TEST(Remote, StopAsksTheActorAndJoinHearsOfItsEnd) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const auto ended = co_await self.stop_and_join(keeper, "no more work", 1s);
    EXPECT_EQ((*ended)->message(), "keeper stopped: no more work");
  }));
  EXPECT_EQ(cluster.b.node->living(), 0);
}

TEST(Remote, AddressesTravel) {
  Cluster cluster;
  EXPECT_TRUE(cluster.run([&](Script& self) -> Task<void> {
    const Ref<Keeper> keeper = co_await cluster.find(self);
    const auto copy = Wire<Address>::decode(Wire<Address>::encode(keeper.address()));
    EXPECT_EQ(*copy, keeper.address());
    const auto again = self.node().ref<Keeper>(*copy);
    EXPECT_TRUE(*again == keeper);
    EXPECT_TRUE((co_await again->ask<&Keeper::words>(1s)).ok());
    EXPECT_THAT(self.node().ref<Keeper>({77, 1, "x"}).error().message(), HasSubstr("no link to the node of x"));
  }));
}

// A process over tcp.
struct TcpNode {
  TcpNode(const std::string& name, uint64_t id, int loops = 1)
      : local(net::Peer{id, name, "h", static_cast<int64_t>(id), 1}, "build", "token"),
        node({.name = name, .host = "h", .pid = static_cast<int64_t>(id), .id = id}, loops),
        transport(node.add(std::make_unique<net::TcpTransport>(node.loop(), local))) {}
  net::LocalNode local;
  ThreadedNode node;
  net::Transport& transport;
};

TEST(RemoteTcp, ActorsOnSeveralLoopsTalkAcrossRealSockets) {
  TcpNode a("a", 1, 2), b("b", 2, 2);
  const auto address = b.node->listen_blocking(b.transport, "127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.error().message();
  const auto peer = a.node->connect_blocking(a.transport, *address, 20s);
  ASSERT_TRUE(peer.ok()) << peer.error().message();
  EXPECT_EQ(peer->name, "b");
  const auto keeper = b.node->spawn<Keeper>({.name = "keeper", .loop = 1, .registered = "keeper"});
  const auto remote = a.node->lookup_blocking<Keeper>(2, "keeper", 20s);
  ASSERT_TRUE(remote.ok()) << remote.error().message();
  EXPECT_EQ(remote->ask_blocking<&Keeper::keep>(Note{"xyz", 1}, 20s).value(), 3);
  EXPECT_EQ(remote->ask_blocking<&Keeper::keep>(Note{"xyz", -1}, 20s).error().message(), "-1 is negative");

  // From an actor on the other loop, in order.
  Handoff<std::string> words;
  std::promise<std::string> told;
  a.node->spawn<Script>({.loop = 1}, [&, remote = *remote](Script&) -> Task<void> {
    for (int i = 0; i < 3000; ++i)
      EXPECT_TRUE((co_await remote.tell<&Keeper::keep>(Note{std::to_string(i % 10), 1})).ok());
    told.set_value((co_await remote.ask<&Keeper::words>(20s)).value());
  });
  auto future = told.get_future();
  ASSERT_EQ(future.wait_for(20s), std::future_status::ready);
  const std::string all = future.get();
  ASSERT_EQ(all.size(), 3003u);
  for (size_t i = 3; i < all.size(); ++i) ASSERT_EQ(all[i], '0' + static_cast<char>((i - 3) % 10));

  std::span<std::byte> bytes;
  const wire::Buffer buffer = wire::Buffer::allocate(3 << 20, &bytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  const auto back = remote->ask_blocking<&Keeper::echo>(buffer, 20s);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_TRUE(std::ranges::equal(back->bytes(), buffer.bytes()));

  EXPECT_THAT(remote->ask_blocking<&Keeper::fails>("bad day", 20s).error().message(),
              HasSubstr("keeper (node b, host h, pid 2) failed: in Keeper::fails: bad day"));
  EXPECT_TRUE(a.node->stop_blocking(20s).ok());
  EXPECT_TRUE(b.node->stop_blocking(20s).ok());
}

TEST(RemoteTcp, APlainThreadLearnsThatTheNodeIsGone) {
  TcpNode a("a", 1);
  auto b = std::make_unique<TcpNode>("b", 2);
  const auto address = b->node->listen_blocking(b->transport, "127.0.0.1:0");
  ASSERT_TRUE(a.node->connect_blocking(a.transport, *address, 20s).ok());
  b->node->spawn<Keeper>({.name = "keeper", .registered = "keeper"});
  const auto remote = a.node->lookup_blocking<Keeper>(2, "keeper", 20s);
  b->node->spawn<Keeper>({.name = "other", .registered = "other"});
  const auto other = a.node->lookup_blocking<Keeper>(2, "other", 20s);
  std::thread killer([&] {
    EXPECT_TRUE(other->ask_blocking<&Keeper::words>(20s).ok());
    b.reset();
  });
  const auto answer = remote->ask_blocking<&Keeper::slow>(100'000, 20s);
  EXPECT_THAT(answer.error().message(), HasSubstr("node b (host h, pid 2) was lost"));
  killer.join();
  const auto refused = a.node->connect_blocking(a.transport, *address, 20s);
  EXPECT_FALSE(refused.ok());
}

}  // namespace
}  // namespace troupe::actor
