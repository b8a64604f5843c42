// A mesh whose ranks sit on several nodes: simulated processes in virtual time, over links of objects and of bytes; and
// threads over tcp.
#include "runtime/actor/mesh_ref.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "runtime/actor/threaded_node.h"
#include "runtime/net/tcp.h"
#include "tests/unit/actor/cluster.h"

namespace troupe::actor {

struct Order {
  std::string word;
};
std::atomic<int> orders_encoded = 0;

template <>
struct Wire<Order> {
  static net::Body encode(const Order& order) {
    ++orders_encoded;
    return Wire<std::string>::encode(order.word);
  }
  static Result<Order> decode(const net::Body& body) { return Order{TROUPE_TRY(Wire<std::string>::decode(body))}; }
};

namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class Rank : public Actor {
 public:
  explicit Rank(int number) : number_(number) {}
  std::string take(Order order) {
    words_ += order.word;
    return fmt::format("{}:{}", number_, words_);
  }
  int64_t number() const { return number_; }
  Result<int64_t> odd() const {
    if (number_ % 2 == 0) return failed("{} is even", number_);
    return int64_t{number_};
  }
  Task<Result<int64_t>> slow(int64_t milliseconds_each) {
    const Status slept = co_await sleep(number_ * milliseconds_each * 1ms);
    if (!slept.ok()) ++cut_short_;
    if (!slept.ok()) co_return slept.error();
    co_return number_;
  }
  int cut_short() const { return cut_short_; }
  wire::Buffer echo(wire::Buffer buffer) { return buffer; }
  void fails(Order order) { throw std::runtime_error(order.word); }
  void local_only(int) {}
  using Protocol =
      Methods<&Rank::take, &Rank::number, &Rank::odd, &Rank::slow, &Rank::cut_short, &Rank::echo, &Rank::fails>;

 private:
  const int number_;
  std::string words_;
  int cut_short_ = 0;
};

// Counts the messages and answers that one end sends, as frames.
class Counting final : public net::Link {
 public:
  Counting(std::unique_ptr<net::Link> link, int& frames) : link_(std::move(link)), frames_(frames) {}
  const net::Peer& peer() const override { return link_->peer(); }
  void start(net::LinkEvents events) override { link_->start(std::move(events)); }
  Status prepare(net::Parcel& parcel) override { return link_->prepare(parcel); }
  bool has_room() override { return link_->has_room(); }
  bool send(net::Parcel& parcel) override {
    const bool system = parcel.header.kind == wire::FrameKind::system;
    const bool sent = link_->send(parcel);
    if (sent && !system) ++frames_;
    return sent;
  }
  void release(int64_t count) override { link_->release(count); }
  void close(const Error& reason, std::function<void()> drained) override { link_->close(reason, std::move(drained)); }
  const net::LinkCounters& counters() const override { return link_->counters(); }

 private:
  std::unique_ptr<net::Link> link_;
  int& frames_;
};

// A head and nodes with some ranks each, rank 0 first; ranks of node 0 sit with the head.
struct Fleet : Network {
  struct Member : Process {
    using Process::Process;
    int sent = 0;  // frames to the head, or by it
  };

  Fleet(int nodes, int ranks_each, int at_head = 0, const net::LinkOptions& options = {},
        Carrier carrier = Carrier::objects)
      : head(*this, "head", 1, options, carrier) {
    std::vector<Ref<Rank>> all;
    for (int i = 0; i < at_head; ++i) all.push_back(head.node->spawn<Rank>({.name = "here"}, i));
    TROUPE_CHECK(head.transport
                     ->listen("head",
                              [this](std::unique_ptr<net::Link> link) {
                                head.node->adopt(std::make_unique<Counting>(std::move(link), head.sent));
                              })
                     .ok());
    for (int n = 0; n < nodes; ++n) {
      const auto id = static_cast<uint64_t>(n + 2);
      members.push_back(std::make_unique<Member>(*this, fmt::format("n{}", n), id, options, carrier));
      Member& member = *members.back();
      member.transport->connect("head", [&member](Result<std::unique_ptr<net::Link>> link) {
        member.node->adopt(std::make_unique<Counting>(std::move(link).value(), member.sent));
      });
      settle(carrier);
      for (int i = 0; i < ranks_each; ++i) {
        const auto number = static_cast<int>(all.size());
        here.push_back(member.node->spawn<Rank>({.name = fmt::format("rank-{}", number)}, number));
        all.push_back(head.node->ref<Rank>({id, here.back().endpoint()->id(), here.back().name()}).value());
      }
    }
    ranks = MeshRef(std::move(all));
    settle(carrier);
  }
  // Runs a script on the head.
  bool run(Script::Body body) { return Network::run(*head.node, std::move(body)); }
  void lose(size_t node) {
    members[node]->node.reset();
    members[node]->transport.reset();
  }

  Member head;
  std::vector<std::unique_ptr<Member>> members;
  std::vector<Ref<Rank>> here;  // as their nodes have them
  MeshRef<Rank> ranks;
};

TEST(MeshRef, GoesToEachNodeInOneFrameAndComesBackInOne) {
  Fleet fleet(4, 8);
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    const auto numbers = co_await fleet.ranks.gather<&Rank::number>(1s);
    EXPECT_TRUE(numbers.ok());
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(numbers->at(i), static_cast<int64_t>(i));
    EXPECT_EQ(fleet.head.sent, 4);
    for (const auto& member : fleet.members) EXPECT_EQ(member->sent, 1);
    EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"a"})).ok());
    EXPECT_EQ((co_await fleet.ranks.reduce<&Rank::number>(std::plus<>(), 1s)).value(), 31 * 32 / 2);
    EXPECT_EQ(fleet.head.sent, 12);
  }));
}

TEST(MeshRef, SlicesMayLieAnyhowAcrossNodesAndTheHead) {
  Fleet fleet(3, 4, 4);
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    const auto slice = fleet.ranks.slice(1, 5, 3);
    EXPECT_THAT((co_await slice.gather<&Rank::number>(1s)).value(), ElementsAre(1, 4, 7, 10, 13));
    EXPECT_EQ(fleet.head.sent, 3) << "two of them on one node";
    const auto odd = co_await fleet.ranks.ask<&Rank::odd>(1s);
    for (size_t i = 0; i < odd.size(); ++i) EXPECT_EQ(odd[i].ok(), i % 2 == 1) << i;
    EXPECT_EQ(odd[8].error().message(), "8 is even");
    EXPECT_EQ((co_await slice.gather<&Rank::odd>(1s)).error().message(), "rank 1: 4 is even");
    const auto refused = co_await fleet.ranks.ask<&Rank::local_only>(1, 1s);
    EXPECT_TRUE(refused[0].ok());
    EXPECT_THAT(refused[4].error().message(), HasSubstr("not in its actor's Protocol"));
  }));
}

TEST(MeshRef, MessagesToOneRankKeepTheirOrderAmongThoseToItsMesh) {
  Fleet fleet(2, 2);
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    EXPECT_TRUE(fleet.ranks[3].try_tell<&Rank::take>(Order{"a"}).ok());
    EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"b"})).ok());
    EXPECT_TRUE(fleet.ranks[3].try_tell<&Rank::take>(Order{"c"}).ok());
    EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"d"})).ok());
    EXPECT_EQ((co_await fleet.ranks[3].ask<&Rank::take>(Order{"e"}, 1s)).value(), "3:abcde");
    EXPECT_EQ((co_await fleet.ranks[1].ask<&Rank::take>(Order{"e"}, 1s)).value(), "1:bde");
  }));
}

TEST(MeshRef, AtTheDeadlineThoseThatHaveAnsweredHaveAndTheOthersAreStopped) {
  Fleet fleet(2, 4);
  EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
    const auto begun = self.now();
    const auto answers = co_await fleet.ranks.ask<&Rank::slow>(300, 1s);  // rank 4 would need 1.2 s
    EXPECT_EQ(self.now() - begun, 1s);
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(answers[i].ok(), i <= 3) << i;
    EXPECT_THAT(answers[5].error().message(), HasSubstr("Rank::slow"));
    (void)co_await self.sleep(1ms);
    EXPECT_THAT((co_await fleet.ranks.gather<&Rank::cut_short>(1s)).value(), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  }));
}

TEST(MeshRef, AHandlerThatStopsWaitingStopsAllThatItAsked) {
  Fleet fleet(2, 2);
  EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
    const auto asker = self.spawn<Script>(
        {.name = "asker"}, [&](Script&) -> Task<void> { (void)co_await fleet.ranks.ask<&Rank::slow>(50'000, 900s); });
    (void)co_await self.sleep(1s);
    (void)co_await self.stop_and_join(asker, "enough", 1s);
    (void)co_await self.sleep(1s);
    EXPECT_THAT((co_await fleet.ranks.gather<&Rank::cut_short>(1s)).value(), ElementsAre(0, 1, 1, 1));
  }));
}

TEST(MeshRef, ALostNodeIsTheCauseForItsRanksAndForNoOthers) {
  Fleet fleet(3, 2);
  EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
    Timer loss = self.node().executor(0).loop().after(150ms, [&] { fleet.lose(1); });
    const auto answers = co_await fleet.ranks.ask<&Rank::slow>(100, 100s);
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(answers[i].ok(), i != 2 && i != 3) << i;
    for (size_t i : {2, 3}) {
      EXPECT_THAT(answers[i].error().message(),
                  HasSubstr(fmt::format("Rank::slow was not answered by rank-{}: node n1 (host host-n1, pid 103) was "
                                        "lost: ",
                                        i)));
    }
    EXPECT_THAT((co_await fleet.ranks.tell<&Rank::take>(Order{"x"})).error().message(), HasSubstr("rank 2: "));
    EXPECT_EQ((co_await fleet.ranks[5].ask<&Rank::take>(Order{"y"}, 1s)).value(), "5:xy") << "told all the same";
  }));
}

TEST(MeshRef, ANodeThatIsLostBeforeItsFrameIsSentIsNoDifferent) {
  Fleet fleet(2, 2);
  EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
    // Runs before what is bundled goes out.
    self.node().executor(0).loop().post([&] { self.node().unlink(3, failed("cut")); });
    const auto answers = co_await fleet.ranks.ask<&Rank::number>(1s);
    EXPECT_TRUE(answers[0].ok() && answers[1].ok());
    EXPECT_THAT(answers[2].error().message(), HasSubstr("was lost: cut"));
    EXPECT_THAT(answers[3].error().message(), HasSubstr("was lost: cut"));
  }));
}

TEST(MeshRef, ARankThatHasDiedAnswersWithItsFirstCauseAndItsNeighboursAnswer) {
  Fleet fleet(1, 3);
  EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
    EXPECT_TRUE((co_await fleet.ranks[1].tell<&Rank::fails>(Order{"out of luck"})).ok());
    (void)co_await self.sleep(1ms);
    const auto answers = co_await fleet.ranks.ask<&Rank::number>(1s);
    EXPECT_TRUE(answers[0].ok() && answers[2].ok());
    EXPECT_THAT(answers[1].error().message(), HasSubstr("failed: in Rank::fails: out of luck"));
  }));
}

TEST(MeshRef, BuffersTravelBesideTheListOfRanks) {
  Fleet fleet(2, 2);
  std::span<std::byte> bytes;
  const wire::Buffer buffer = wire::Buffer::allocate(1000, &bytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    const auto echoes = co_await fleet.ranks.gather<&Rank::echo>(buffer, 1s);
    for (const wire::Buffer& echo : echoes.value()) EXPECT_TRUE(std::ranges::equal(echo.bytes(), buffer.bytes()));
  }));
}

TEST(MeshRef, AWindowOfOneIsEnoughAndMailboxesStayBounded) {
  Fleet fleet(2, 4, 0, {.window = 1});
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    for (int i = 0; i < 3000; ++i) EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"x"})).ok());
    const auto words = co_await fleet.ranks.gather<&Rank::take>(Order{"!"}, 100s);
    for (const std::string& word : words.value())
      EXPECT_THAT(word, testing::EndsWith(":" + std::string(3000, 'x') + "!"));
  }));
}

TEST(MeshRef, ASlowRankHoldsUpNoneOfTheOthers) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Fleet fleet(2, 2, 0, {.window = 4}, carrier);
    EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
      self.spawn<Script>({}, [&](Script&) -> Task<void> {
        EXPECT_TRUE((co_await fleet.ranks[1].ask<&Rank::slow>(100'000, 900s)).ok());
      });
      (void)co_await self.sleep(1s);
      for (int i = 0; i < 600; ++i) EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"x"})).ok());
      for (const size_t rank : {0, 2, 3}) {
        EXPECT_EQ((co_await fleet.ranks[rank].ask<&Rank::take>(Order{"!"}, 1s))->size(), 603u);
      }
      EXPECT_FALSE((co_await fleet.ranks[1].ask<&Rank::number>(1s)).ok());
      (void)co_await self.sleep(100s);
      EXPECT_EQ((co_await fleet.ranks[1].ask<&Rank::take>(Order{"!"}, 1s))->size(), 603u) << "its turn has come";
    }));
  }
}

TEST(MeshRef, WhatIsTooLargeTogetherGoesOneByOne) {
  for (const int64_t window : {1, 1024}) {
    Fleet fleet(2, 4, 0, {.window = window, .max_frame_bytes = 4096, .max_buffer_bytes = 3100}, Carrier::bytes);
    std::span<std::byte> bytes;
    const wire::Buffer buffer = wire::Buffer::allocate(3050, &bytes);
    EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
      const auto words = co_await fleet.ranks.gather<&Rank::take>(Order{std::string(2500, 'x')}, 10s);
      EXPECT_TRUE(words.ok()) << words.error().message();
      EXPECT_EQ(fleet.head.sent, 2);
      for (const auto& member : fleet.members) EXPECT_EQ(member->sent, 4);
      EXPECT_TRUE((co_await fleet.ranks.gather<&Rank::echo>(buffer, 10s)).ok());
      EXPECT_EQ(fleet.head.sent, 10) << "four more for each node";
      EXPECT_THAT((co_await fleet.ranks[0].ask<&Rank::take>(Order{"y"}, 1s)).value(), testing::EndsWith("xy"));
    }));
  }
}

TEST(MeshRef, WhatCannotBeCarriedFailsForEachRankAndTheLinksStay) {
  Fleet fleet(2, 2, 0, {.max_frame_bytes = 4096}, Carrier::bytes);
  EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
    for (const auto& answer : co_await fleet.ranks.ask<&Rank::take>(Order{std::string(5000, 'x')}, 1s)) {
      EXPECT_THAT(answer.error().message(), HasSubstr("the limit is 4096"));
    }
    EXPECT_THAT((co_await fleet.ranks.gather<&Rank::take>(Order{"y"}, 1s)).value(),
                ElementsAre("0:y", "1:y", "2:y", "3:y"));
  }));
  for (const auto& member : fleet.members) EXPECT_EQ(member->sent, 1);
}

TEST(MeshRef, ACancelDoesNotOvertakeItsQuestion) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Fleet fleet(2, 2, 0, {}, carrier);
    const auto script = fleet.head.node->spawn<Script>({.name = "fickle"});
    fleet.loop.run_until_idle();
    EXPECT_TRUE(script
                    .try_tell<&Script::run>(
                        [&](Script&) -> Task<void> { (void)co_await fleet.ranks.ask<&Rank::take>(Order{"x"}, 1s); })
                    .ok());
    script.stop("never mind");
    fleet.loop.advance(1s);
    EXPECT_TRUE(fleet.run([&](Script&) -> Task<void> {
      EXPECT_EQ((co_await fleet.ranks[0].ask<&Rank::take>(Order{"y"}, 1s)).value(), "0:y");
      EXPECT_EQ((co_await fleet.ranks[3].ask<&Rank::take>(Order{"y"}, 1s)).value(), "3:y");
    }));
  }
}

TEST(MeshRef, WhatWasToldBeforeANodeStopsArrives) {
  for (const Carrier carrier : {Carrier::objects, Carrier::bytes}) {
    Fleet fleet(1, 2, 0, {}, carrier);
    EXPECT_TRUE(fleet.run([&](Script& self) -> Task<void> {
      EXPECT_TRUE((co_await fleet.ranks.tell<&Rank::take>(Order{"x"})).ok());
      self.node().unlink(2, failed("that is all"));  // what was told is still held here
    }));
    fleet.loop.advance(1s);
    for (const Ref<Rank>& rank : fleet.here) {
      std::string words;
      fleet.members[0]->node->spawn<Script>(
          {}, [&](Script&) -> Task<void> { words = (co_await rank.ask<&Rank::take>(Order{"y"}, 1s)).value(); });
      fleet.loop.run_until_idle();
      EXPECT_THAT(words, testing::EndsWith(":xy"));
    }
  }
}

// Over sockets messages become bytes: two nodes with two ranks each, asked by a third.
TEST(MeshRefTcp, ArgumentsAreEncodedOnceForAllNodes) {
  struct Process {
    Process(const std::string& name, uint64_t id)
        : local(net::Peer{id, name, "h", static_cast<int64_t>(id), 1}, "build", "token"),
          node({.name = name, .host = "h", .pid = static_cast<int64_t>(id), .id = id}),
          transport(node.add(std::make_unique<net::TcpTransport>(node.loop(), local))) {}
    net::LocalNode local;
    ThreadedNode node;
    net::Transport& transport;
  };
  Process head("head", 1), a("a", 2), b("b", 3);
  std::vector<Ref<Rank>> all;
  for (Process* process : {&a, &b}) {
    const auto address = process->node->listen_blocking(process->transport, "127.0.0.1:0");
    ASSERT_TRUE(address.ok()) << address.error().message();
    ASSERT_TRUE(head.node->connect_blocking(head.transport, *address, 20s).ok());
    for (int i = 0; i < 2; ++i) {
      const auto number = static_cast<int>(all.size());
      const auto rank = process->node->spawn<Rank>({.name = fmt::format("rank-{}", number)}, number);
      all.push_back(
          head.node->ref<Rank>({process == &a ? uint64_t{2} : uint64_t{3}, rank.endpoint()->id(), rank.name()})
              .value());
    }
  }
  const MeshRef<Rank> ranks(std::move(all));
  std::span<std::byte> bytes;
  const wire::Buffer buffer = wire::Buffer::allocate(200'000, &bytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  std::promise<std::vector<std::string>> told;
  orders_encoded = 0;
  head.node->spawn<Script>({}, [&](Script&) -> Task<void> {
    EXPECT_TRUE((co_await ranks.tell<&Rank::take>(Order{"a"})).ok());
    EXPECT_TRUE(ranks[2].try_tell<&Rank::take>(Order{"b"}).ok());
    const auto echoes = co_await ranks.gather<&Rank::echo>(buffer, 20s);
    EXPECT_TRUE(echoes.ok());
    for (const wire::Buffer& echo : *echoes) EXPECT_TRUE(std::ranges::equal(echo.bytes(), buffer.bytes()));
    const auto odd = co_await ranks.ask<&Rank::odd>(20s);
    EXPECT_EQ(odd[2].error().message(), "2 is even");
    EXPECT_EQ(odd[3].value(), 3);
    told.set_value((co_await ranks.gather<&Rank::take>(Order{"c"}, 20s)).value());
  });
  auto future = told.get_future();
  ASSERT_EQ(future.wait_for(20s), std::future_status::ready);
  EXPECT_THAT(future.get(), ElementsAre("0:ac", "1:ac", "2:abc", "3:ac"));
  EXPECT_EQ(orders_encoded, 3) << "one for each thing that was said";
  for (Process* process : {&head, &a, &b}) EXPECT_TRUE(process->node->stop_blocking(20s).ok());
}

}  // namespace
}  // namespace troupe::actor
