// What every transport promises (runtime/net/transport.h), held to each backend.
#include "tests/unit/net/transport_conformance.h"
#include "runtime/actor/simulated_thread.h"
#include "runtime/base/check.h"
#include "runtime/net/inproc.h"
#include "runtime/net/simulated.h"
#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"

namespace troupe::net {
namespace {

using wire::FrameKind;

std::vector<Parcel> numbered(size_t count) {
  std::vector<Parcel> parcels;
  for (size_t i = 0; i < count; ++i) parcels.push_back(text_parcel(std::to_string(i)));
  return parcels;
}

TEST_P(TransportConformance, TellsEachSideWhoTheOtherIs) {
  nodes();
  connect();
  EXPECT_EQ(a_->link()->peer().name, "b");
  EXPECT_EQ(b_->link()->peer().name, "a");
  EXPECT_EQ(a_->link()->peer().node, node_b_->node().self().node);
  EXPECT_EQ(b_->link()->peer().pid, ::getpid());
}

TEST_P(TransportConformance, KeepsTheOrderOfTenThousandAndLosesNone) {
  nodes();
  connect();
  a_->send(numbered(10'000));
  ASSERT_TRUE(b_->wait_received(10'000));
  for (size_t i = 0; i < 10'000; ++i) ASSERT_EQ(b_->text(i), std::to_string(i));
  EXPECT_EQ(b_->received(), 10'000U);
}

TEST_P(TransportConformance, CarriesTheWholeHeader) {
  nodes();
  connect();
  Parcel parcel = text_parcel("x", FrameKind::reply);
  parcel.header.method = 65'000;
  parcel.header.destination = 0x1122334455667788;
  parcel.header.source = 3;
  parcel.header.ask = 1ULL << 63;
  parcel.header.trace = 99;
  parcel.header.time_left_ns = 5'000'000'000;
  a_->send(std::move(parcel));
  ASSERT_TRUE(b_->wait_received(1));
  const wire::Header& header = b_->parcel(0).header;
  EXPECT_EQ(header.kind, FrameKind::reply);
  EXPECT_EQ(header.method, 65'000);
  EXPECT_EQ(header.destination, 0x1122334455667788U);
  EXPECT_EQ(header.source, 3U);
  EXPECT_EQ(header.ask, 1ULL << 63);
  EXPECT_EQ(header.trace, 99U);
  EXPECT_EQ(header.generation, 1U);
  EXPECT_LE(header.time_left_ns, 5'000'000'000);
  EXPECT_GT(header.time_left_ns, 0);
}

TEST_P(TransportConformance, CarriesBuffersOfEverySize) {
  nodes();
  connect();
  const std::vector<size_t> sizes{0,
                                  1,
                                  7,
                                  4096,
                                  65'535,
                                  65'536,
                                  65'537,
                                  0,
                                  size_t{64} << 20,
                                  3,
                                  (size_t{4} << 20) - 1,
                                  size_t{4} << 20,
                                  (size_t{4} << 20) + 1,
                                  size_t{8} << 20};
  a_->send(bytes_parcel(24, sizes));
  a_->send(bytes_parcel(0, {}));
  a_->send(bytes_parcel(1 << 20, {}));
  ASSERT_TRUE(b_->wait_received(3));
  EXPECT_TRUE(is_bytes_parcel(b_->parcel(0), 24, sizes));
  EXPECT_TRUE(is_bytes_parcel(b_->parcel(1), 0, {}));
  EXPECT_TRUE(is_bytes_parcel(b_->parcel(2), 1 << 20, {}));
}

TEST_P(TransportConformance, CarriesManyBuffersInOneParcel) {
  nodes();
  connect();
  std::vector<size_t> sizes;
  for (size_t i = 0; i < 1500; ++i) sizes.push_back(i % 50 == 0 ? 70'000 : i % 300);
  a_->send(bytes_parcel(8, sizes));
  ASSERT_TRUE(b_->wait_received(1));
  EXPECT_TRUE(is_bytes_parcel(b_->parcel(0), 8, sizes));
}

TEST_P(TransportConformance, KeepsSmallAndLargeParcelsInOrder) {
  nodes();
  connect();
  std::vector<Parcel> parcels;
  const auto sizes = [](size_t i) {
    return i % 3 == 0 ? std::vector<size_t>{} : std::vector<size_t>{i * 997 % 200'000};
  };
  for (size_t i = 0; i < 300; ++i) parcels.push_back(bytes_parcel(i % 40, sizes(i), i));
  a_->send(std::move(parcels));
  ASSERT_TRUE(b_->wait_received(300));
  for (size_t i = 0; i < 300; ++i) ASSERT_TRUE(is_bytes_parcel(b_->parcel(i), i % 40, sizes(i), i)) << i;
}

TEST_P(TransportConformance, HoldsBackASenderWhoseReceiverIsSlow) {
  nodes({.window = 8});
  connect(LinkEnd::Releases::when_told);
  a_->send(numbered(100));
  ASSERT_TRUE(b_->wait_received(8));
  EXPECT_EQ(a_->unsent(), 92U);
  // The sender's parcel is untouched where it found no room.
  Parcel parcel = text_parcel("later");
  EXPECT_FALSE(a_->try_send(parcel));
  EXPECT_EQ(text_of(parcel), "later");
  for (size_t taken = 0; taken < 100; ++taken) {
    ASSERT_TRUE(b_->wait_received(taken + 1));
    b_->release(1);
  }
  EXPECT_LE(b_->counters().most_held, 8);
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(b_->text(i), std::to_string(i));
}

TEST_P(TransportConformance, BoundsTheBytesAtBothEndsOfASlowReceiver) {
  constexpr int64_t kWindow = 1 << 20;
  constexpr size_t kBuffer = 256 * 1024;
  nodes({.window = 1000, .window_bytes = kWindow});
  connect(LinkEnd::Releases::when_told);
  std::vector<Parcel> parcels;
  for (size_t i = 0; i < 40; ++i) parcels.push_back(bytes_parcel(16, {kBuffer}, i));
  a_->send(std::move(parcels));
  ASSERT_TRUE(b_->wait_received(4));
  EXPECT_EQ(a_->unsent(), 36U);
  for (size_t taken = 0; taken < 40; ++taken) {
    ASSERT_TRUE(b_->wait_received(taken + 1));
    EXPECT_TRUE(is_bytes_parcel(b_->parcel(taken), 16, {kBuffer}, taken));
    b_->release(1);
  }
  EXPECT_LE(b_->counters().most_held_bytes, kWindow + static_cast<int64_t>(kBuffer) + 16);
  EXPECT_LE(a_->counters().most_queued_bytes, kWindow + static_cast<int64_t>(kBuffer) + 16);
}

TEST_P(TransportConformance, LetsAMessageThroughThatIsLargerThanTheWindow) {
  nodes({.window_bytes = 1000});
  connect();
  for (uint64_t i = 0; i < 5; ++i) a_->send(bytes_parcel(64, {300'000}, i));
  ASSERT_TRUE(b_->wait_received(5));
  for (uint64_t i = 0; i < 5; ++i) EXPECT_TRUE(is_bytes_parcel(b_->parcel(i), 64, {300'000}, i));
}

TEST_P(TransportConformance, LetsSystemParcelsPassAFullWindow) {
  nodes({.window = 2});
  connect(LinkEnd::Releases::when_told);
  a_->send(numbered(10));
  ASSERT_TRUE(b_->wait_received(2));
  Parcel system = text_parcel("urgent", FrameKind::system);
  EXPECT_TRUE(a_->try_send(system));
  ASSERT_TRUE(b_->wait_received(3));
  EXPECT_EQ(b_->text(2), "urgent");
  b_->release(2);
  EXPECT_TRUE(b_->wait_received(5));
}

TEST_P(TransportConformance, TellsThePeerWhyItClosedAfterAllThatWasSent) {
  nodes();
  connect();
  a_->send(numbered(500));
  a_->send(bytes_parcel(8, {size_t{4} << 20}));
  a_->close(usage_error("the plan is done"));
  EXPECT_EQ(b_->wait_closed(), "the plan is done");
  EXPECT_EQ(b_->received(), 501U);
  Parcel late = text_parcel("late");
  EXPECT_TRUE(a_->try_send(late));
  EXPECT_TRUE(b_->try_send(late));
  EXPECT_FALSE(a_->closed()) << "who closes is not told";
}

TEST_P(TransportConformance, TellsThePeerWhenALinkIsDestroyed) {
  nodes();
  connect();
  a_->send(numbered(3));
  a_->destroy();
  EXPECT_NE(b_->wait_closed(), "");
  EXPECT_EQ(b_->received(), 3U);
}

TEST_P(TransportConformance, BothMayCloseAtOnce) {
  nodes();
  for (int i = 0; i < 20; ++i) {
    connect();
    node_a_->loop().post([a = a_.get()] { a->link()->close(failed("a is done")); });
    node_b_->loop().post([b = b_.get()] { b->link()->close(failed("b is done")); });
    a_.reset();
    b_.reset();
  }
}

TEST_P(TransportConformance, SaysThatNobodyListens) {
  nodes();
  const auto link = node_a_->connect(GetParam().nowhere);
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.error().message().find("connection refused"), std::string::npos) << link.error().message();
  EXPECT_NE(link.error().message().find(GetParam().nowhere), std::string::npos) << link.error().message();
}

TEST_P(TransportConformance, SaysThatAnAddressIsInUse) {
  nodes();
  node_a_->run([&] {
    auto transport = GetParam().make(node_a_->loop(), node_a_->node(), {});
    const auto bound = transport->listen(address_, [](std::unique_ptr<Link>) {});
    ASSERT_FALSE(bound.ok());
    EXPECT_NE(bound.error().message().find("address in use"), std::string::npos) << bound.error().message();
  });
}

TEST_P(TransportConformance, CarriesBothWaysAtOnce) {
  nodes({.window = 16});
  connect();
  const auto parcels = [] {
    std::vector<Parcel> made;
    for (size_t i = 0; i < 1000; ++i) made.push_back(bytes_parcel(32, {i % 10 == 0 ? size_t{100'000} : i}, i));
    return made;
  };
  a_->send(parcels());
  b_->send(parcels());
  ASSERT_TRUE(a_->wait_received(1000));
  ASSERT_TRUE(b_->wait_received(1000));
  for (size_t i = 0; i < 1000; ++i) {
    const std::vector<size_t> sizes{i % 10 == 0 ? size_t{100'000} : i};
    ASSERT_TRUE(is_bytes_parcel(a_->parcel(i), 32, sizes, i));
    ASSERT_TRUE(is_bytes_parcel(b_->parcel(i), 32, sizes, i));
  }
}

TEST_P(TransportConformance, CarriesManyLinksOnOneLoop) {
  nodes();
  std::vector<std::unique_ptr<LinkEnd>> here, there;
  for (int i = 0; i < 40; ++i) {
    connect();
    here.push_back(std::move(a_));
    there.push_back(std::move(b_));
  }
  for (size_t i = 0; i < here.size(); ++i) {
    for (size_t k = 0; k < 50; ++k) here[i]->send(text_parcel(std::to_string(i * 1000 + k)));
  }
  for (size_t i = 0; i < here.size(); ++i) {
    ASSERT_TRUE(there[i]->wait_received(50));
    for (size_t k = 0; k < 50; ++k) ASSERT_EQ(there[i]->text(k), std::to_string(i * 1000 + k));
  }
}

TEST_P(TransportConformance, KeepsWhatCameBeforeTheLinkWasStarted) {
  nodes();
  auto link = node_a_->connect(address_);
  ASSERT_TRUE(link.ok()) << link.error().message();
  LinkEnd a(*node_a_, std::move(link).value());
  a.send(numbered(100));
  a.send(bytes_parcel(8, {200'000}));
  LinkEnd b(*node_b_, node_b_->accept(), LinkEnd::Releases::at_once, {}, false);
  a.send(text_parcel("last"));
  b.start();
  ASSERT_TRUE(b.wait_received(102));
  EXPECT_EQ(b.text(0), "0");
  EXPECT_TRUE(is_bytes_parcel(b.parcel(100), 8, {200'000}));
  EXPECT_EQ(b.text(101), "last");
}

TEST_P(TransportConformance, MayBeClosedInsideItsOwnCallback) {
  nodes();
  connect(LinkEnd::Releases::at_once, [](LinkEnd& end, const Parcel& parcel) {
    if (text_of(parcel) == "5") end.link()->close(failed("five is enough"));
  });
  a_->send(numbered(1000));
  EXPECT_EQ(a_->wait_closed(), "five is enough");
  EXPECT_EQ(b_->received(), 6U);
}

TEST_P(TransportConformance, MayBeDestroyedInsideItsOwnCallback) {
  nodes();
  connect(LinkEnd::Releases::at_once, [](LinkEnd& end, const Parcel& parcel) {
    if (text_of(parcel) == "5") end.drop_here();
  });
  a_->send(numbered(1000));
  EXPECT_NE(a_->wait_closed(), "");
  EXPECT_EQ(b_->received(), 6U);
}

TEST_P(TransportConformance, LinksOutliveTheirTransport) {
  nodes();
  connect();
  node_a_->destroy_transport();
  node_b_->destroy_transport();
  a_->send(numbered(10));
  EXPECT_TRUE(b_->wait_received(10));
  b_->send(numbered(10));
  EXPECT_TRUE(a_->wait_received(10));
}

TEST_P(TransportConformance, ClosesALinkWhoseMessageIsTooLarge) {
  nodes({.max_frame_bytes = 10'000});
  connect();
  a_->send(bytes_parcel(10'000, {}));
  a_->send(bytes_parcel(10'001, {}));
  EXPECT_NE(a_->wait_closed().find("10001 bytes; the limit is 10000"), std::string::npos);
  EXPECT_NE(b_->wait_closed().find("10001 bytes; the limit is 10000"), std::string::npos);
  EXPECT_EQ(b_->received(), 1U);
}

TEST_P(TransportConformance, RefusesAWrongToken) {
  nodes({}, {.token = "another token"});
  const auto link = node_a_->connect(address_);
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.error().message().find("wrong token"), std::string::npos) << link.error().message();
}

TEST_P(TransportConformance, RefusesAnOlderGeneration) {
  nodes({}, {.generation = 3}, {.name = "b", .generation = 4});
  const auto link = node_a_->connect(address_);
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.error().message().find("generation 3"), std::string::npos) << link.error().message();
  EXPECT_NE(link.error().message().find("generation 4"), std::string::npos) << link.error().message();
}

TEST_P(TransportConformance, RefusesAnotherBuild) {
  nodes({}, {.build = "build-0"});
  const auto link = node_a_->connect(address_);
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.error().message().find("build"), std::string::npos) << link.error().message();
}

TEST_P(TransportConformance, DropsWhatComesFromAnOlderGeneration) {
  nodes({.window = 4});
  connect();
  a_->send(text_parcel("before"));
  ASSERT_TRUE(b_->wait_received(1));
  node_b_->node().enter_generation(2);
  a_->send(numbered(50));  // credit comes back for what is dropped
  ASSERT_TRUE(a_->wait_sent());
  node_a_->node().enter_generation(2);
  a_->send(text_parcel("after"));
  ASSERT_TRUE(b_->wait_received(2));
  EXPECT_EQ(b_->text(1), "after");
  EXPECT_EQ(b_->counters().dropped_stale, 50);
}

TEST_P(TransportConformance, SurvivesManyLinksThatComeAndGo) {
  nodes();
  for (int i = 0; i < 100; ++i) {
    connect();
    a_->send(text_parcel("hello"));
    if (i % 3 == 0) ASSERT_TRUE(b_->wait_received(1));
    (i % 2 == 0 ? a_ : b_)->destroy();
    ASSERT_NE((i % 2 == 0 ? b_ : a_)->wait_closed(), "");
  }
}

TEST_P(TransportConformance, ALoopThatEndsTakesItsLinksWithIt) {
  nodes();
  // The link is dropped where nobody is left to say goodbye.
  {
    const auto on = GetParam().make_loop();
    std::unique_ptr<Transport> transport;
    std::unique_ptr<Link> link;
    on->run([&] {
      transport = GetParam().make(on->loop(), node_a_->node(), {});
      transport->connect(address_, [&](Result<std::unique_ptr<Link>> connected) {
        ASSERT_TRUE(connected.ok()) << connected.error().message();
        const std::lock_guard lock(on->mutex);
        link = std::move(connected).value();
        link->start({[](const Parcel&) {}, {}, [](const Error&) {}});
        Parcel parcel = bytes_parcel(8, {1 << 20});
        link->send(parcel);
        on->changed.notify_all();
      });
    });
    ASSERT_TRUE(on->wait([&] { return link != nullptr; }));
    on->end();
    transport.reset();
    link.reset();
  }
  LinkEnd end(*node_b_, node_b_->accept());
  EXPECT_NE(end.wait_closed(), "");
}

// Loops of one virtual time: it passes while somebody waits.
class SimulatedTestLoop final : public TestLoop {
 public:
  explicit SimulatedTestLoop(actor::SimulatedLoop& world) : world_(world), thread_(world) {}
  actor::EventLoop& loop() override { return thread_; }
  void run(std::function<void()> work) override {
    if (thread_.held()) return work();
    bool done = false;
    thread_.post([&] {
      work();
      done = true;
    });
    while (!done) TROUPE_CHECK(world_.run_one());
  }
  bool wait(const std::function<bool()>& predicate) override {
    const auto end = world_.clock().now() + kPatience;
    world_.run_until_idle();
    while (!predicate() && world_.clock().now() < end) TROUPE_CHECK(world_.advance_to_next());
    return predicate();
  }
  void end() override { thread_.hold(); }

 private:
  actor::SimulatedLoop& world_;
  actor::SimulatedThread thread_;
};

Backend simulated() {
  struct World {
    actor::SimulatedLoop loop;
    SimulatedNetwork network{loop, 1};
  };
  const auto world = std::make_shared<World>();
  world->network.set({.delay = std::chrono::microseconds(50), .jitter = std::chrono::microseconds(200)});
  return {"simulated", [world] { return std::make_unique<SimulatedTestLoop>(world->loop); },
          [world](actor::EventLoop& loop, const LocalNode& node, const LinkOptions& options) {
            return std::make_unique<SimulatedTransport>(world->network, loop, node, options);
          },
          "nobody"};
}

std::vector<Backend> backends() {
  std::vector<Backend> all;
  const InprocNetwork network;
  all.push_back(threaded("inproc", "nobody",
                         [network](actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options) {
                           return std::make_unique<InprocTransport>(network, loop, node, options);
                         }));
  all.push_back(simulated());
  all.push_back(
      threaded("tcp", "127.0.0.1:1", [](actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options) {
        return std::make_unique<TcpTransport>(loop, node, options);
      }));
  all.push_back(threaded("ucx", "127.0.0.1:1"));
  if (has_ucx()) {
    all.back() =
        threaded("ucx", "127.0.0.1:1", [](actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options) {
          auto transport = make_ucx_transport(loop, node, options);
          EXPECT_TRUE(transport.ok()) << transport.error().message();
          return std::move(transport).value();
        });
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Every, TransportConformance, testing::ValuesIn(backends()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace troupe::net
