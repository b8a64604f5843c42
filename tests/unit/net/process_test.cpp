// Links between processes: death, silence, a cut network, a slow receiver's memory.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "runtime/base/process.h"
#include "tests/unit/net/peer_settings.h"
#include "tests/unit/net/transport_conformance.h"

namespace troupe::net {
namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

int64_t resident_bytes(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/statm", pid));
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

class Processes : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "ucx" && !has_ucx()) GTEST_SKIP() << "ucx is not there";
  }

  void listen(const PeerSettings& settings, const std::string& address = "127.0.0.1:0") {
    settings_ = settings;
    const Backend backend =
        threaded(GetParam(), "", [](actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options) {
          auto transport = make_transport(GetParam(), loop, node, options);
          EXPECT_TRUE(transport.ok()) << transport.error().message();
          return std::move(transport).value();
        });
    node_ = std::make_unique<TestNode>(backend, settings.options());
    address_ = node_->listen(address);
  }

  void start_peer(const std::string& mode, std::vector<std::string> before = {},
                  std::vector<std::pair<std::string, std::string>> environment = {},
                  LinkEnd::Releases releases = LinkEnd::Releases::at_once) {
    ProcessOptions options;
    options.arguments = std::move(before);
    options.arguments.insert(options.arguments.end(), {TROUPE_NET_PEER, GetParam(), address_, mode});
    options.environment = std::move(environment);
    options.environment.emplace_back("TROUPE_NET_PEER", settings_.to_text());
    auto started = ChildProcess::start(options);
    ASSERT_TRUE(started.ok()) << started.error().message();
    peer_.emplace(std::move(started).value());
    auto link = node_->accept();
    ASSERT_NE(link, nullptr) << "the peer did not connect";
    end_ = std::make_unique<LinkEnd>(*node_, std::move(link), releases);
  }

  // A round trip: the link works.
  void expect_echo() {
    const size_t before = end_->received();
    end_->send(text_parcel("hello"));
    ASSERT_TRUE(end_->wait_received(before + 1));
  }

  void TearDown() override {
    if (end_) end_->close(failed("the test is over"));
    end_.reset();
    node_.reset();
  }

  PeerSettings settings_;
  std::unique_ptr<TestNode> node_;
  std::string address_;
  std::optional<ChildProcess> peer_;
  std::unique_ptr<LinkEnd> end_;
};

TEST_P(Processes, EchoEverySizeAndEndWhenTheLinkCloses) {
  listen({.silence_ms = 10'000});  // a busy machine may take its time
  start_peer("echo");
  expect_echo();
  const std::vector<size_t> sizes{0, 1, 65'535, 65'536, 65'537, size_t{64} << 20};
  end_->send(bytes_parcel(40, sizes));
  ASSERT_TRUE(end_->wait_received(2));
  EXPECT_TRUE(is_bytes_parcel(end_->parcel(1), 40, sizes));
  EXPECT_EQ(end_->link()->peer().pid, peer_->pid());
  end_->close(failed("the test is over"));
  const auto end = peer_->wait(10'000);
  ASSERT_TRUE(end.has_value()) << "the peer lives on";
  EXPECT_EQ(end->describe(), ProcessEnd{}.describe());
}

TEST_P(Processes, AKilledPeerIsNoticedWithinASecond) {
  // The limit of silence is far away: it is the death that is noticed.
  listen({.silence_ms = 60'000});
  start_peer("echo");
  expect_echo();
  const auto begin = steady_clock::now();
  peer_->send(SIGKILL);
  const std::string cause = end_->wait_closed();
  EXPECT_LE(seconds_since(begin), 1.0);
  EXPECT_NE(cause.find("peer"), std::string::npos) << cause;
}

TEST_P(Processes, APeerKilledInTheMiddleOfItsWordsIsNoticedWithinASecond) {
  listen({.silence_ms = 60'000});
  start_peer("pour");
  ASSERT_TRUE(end_->wait_received(20));
  const auto begin = steady_clock::now();
  peer_->send(SIGKILL);
  EXPECT_NE(end_->wait_closed(), "");
  EXPECT_LE(seconds_since(begin), 1.0);
  // What it had not finished is not there; what is there is whole.
  for (size_t i = 0; i < end_->received(); ++i) {
    const Parcel& parcel = end_->parcel(i);
    ASSERT_EQ(parcel.body.buffers.size(), 1u);
    const std::span<const std::byte> bytes = parcel.body.buffers[0].bytes();
    ASSERT_EQ(bytes.size(), size_t{4} << 20);
    const auto other =
        std::ranges::find_if(bytes, [i](std::byte byte) { return byte != static_cast<std::byte>(i % 251); });
    ASSERT_EQ(other, bytes.end()) << "in parcel " << i << " of " << end_->received();
  }
}

TEST_P(Processes, AStoppedPeerIsNoticedAtTheLimitOfSilence) {
  listen({.silence_ms = 1000});
  start_peer("echo");
  expect_echo();
  peer_->send(SIGSTOP);
  const auto begin = steady_clock::now();
  const std::string cause = end_->wait_closed();
  const double seconds = seconds_since(begin);
  EXPECT_EQ(cause, "no sign of life from peer for 1.0 s");
  EXPECT_GE(seconds, 0.7);
  EXPECT_LE(seconds, 1.8);
  peer_->send(SIGCONT);
}

TEST_P(Processes, OtherLinksGoOnWhenOneIsLost) {
  listen({.silence_ms = 60'000});
  start_peer("echo");
  const auto first_end = std::move(end_);
  ChildProcess first = std::move(*peer_);
  start_peer("echo");
  first.send(SIGKILL);
  EXPECT_NE(first_end->wait_closed(), "");
  expect_echo();
}

TEST_P(Processes, ASlowReceiverHoldsBoundedMemoryAtBothEnds) {
  constexpr int64_t kWindow = int64_t{8} << 20;
  constexpr size_t kMessage = 256 * 1024;
  listen({.window_bytes = kWindow});
  start_peer("hold");
  // 512 MiB are offered; the buffer is one, so only what the link copies counts.
  const Parcel one = bytes_parcel(8, {kMessage});
  std::vector<Parcel> parcels;
  for (int i = 0; i < 2000; ++i) {
    Parcel& parcel = parcels.emplace_back();
    parcel.body = one.body;
  }
  const int64_t before = resident_bytes(::getpid());
  end_->send(std::move(parcels));
  // The window is full as soon as nothing more goes.
  EXPECT_EQ(end_->unsent(), 2000U - kWindow / kMessage);
  Parcel system = text_parcel("still there?", wire::FrameKind::system);
  EXPECT_TRUE(end_->try_send(system));
  const LinkCounters counters = end_->counters();
  EXPECT_LE(counters.most_queued_bytes, kWindow + static_cast<int64_t>(kMessage) + 8);
  EXPECT_LE(resident_bytes(::getpid()) - before, 64 << 20);
  EXPECT_LE(resident_bytes(peer_->pid()), 400 << 20);  // with all that a sanitizer adds
}

TEST_P(Processes, APouringPeerIsHeldBackByAReceiverThatDoesNotRelease) {
  constexpr int64_t kWindow = int64_t{16} << 20;
  listen({.window_bytes = kWindow});
  start_peer("pour", {}, {}, LinkEnd::Releases::when_told);
  ASSERT_TRUE(end_->wait_received(4));
  for (size_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(end_->wait_received(i + 4));
    EXPECT_LE(end_->counters().most_held_bytes, kWindow + (4 << 20));
    end_->release(1);
  }
}

// Two network namespaces and a cable between them, cut in the middle of a link.
class Cable {
 public:
  // Empty where it could be laid, or else why not.
  std::string lay() {
    const std::string id = std::to_string(::getpid() % 100'000);
    space_ = "troupe" + id;
    near_ = "tn" + id;
    far_ = "tf" + id;
    const std::string net = fmt::format("10.{}.{}", 64 + ::getpid() / 250 % 128, ::getpid() % 250);
    near_address_ = net + ".1";
    far_address_ = net + ".2";
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"netns", "add", space_},
             {"link", "add", near_, "type", "veth", "peer", "name", far_, "netns", space_},
             {"addr", "add", near_address_ + "/24", "dev", near_},
             {"link", "set", near_, "up"},
             {"-n", space_, "addr", "add", far_address_ + "/24", "dev", far_},
             {"-n", space_, "link", "set", far_, "up"},
             {"-n", space_, "link", "set", "lo", "up"}}) {
      if (!ip(command)) return "ip " + fmt::format("{}", fmt::join(command, " "));
    }
    return "";
  }
  ~Cable() {
    if (space_.empty()) return;
    ip({"link", "del", near_});
    ip({"netns", "del", space_});
  }
  // False where that is not to be had. Both directions; bits per second.
  bool slow_down(const std::string& rate) {
    const std::vector<std::string> limit{"root", "tbf", "rate", rate, "burst", "128kb", "latency", "100ms"};
    std::vector<std::string> near{"tc", "qdisc", "add", "dev", near_},
        far{"tc", "-n", space_, "qdisc", "add", "dev", far_};
    near.insert(near.end(), limit.begin(), limit.end());
    far.insert(far.end(), limit.begin(), limit.end());
    return run(near) && run(far);
  }
  void cut() { EXPECT_TRUE(ip({"-n", space_, "link", "set", far_, "down"})); }
  std::vector<std::string> enter() const { return {"ip", "netns", "exec", space_}; }
  const std::string& near() const { return near_; }
  const std::string& far() const { return far_; }
  const std::string& near_address() const { return near_address_; }

 private:
  static bool ip(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "ip");
    return run(arguments);
  }
  static bool run(const std::vector<std::string>& arguments) {
    ProcessOptions options;
    options.arguments = arguments;
    options.output = "/dev/null";
    auto started = ChildProcess::start(options);
    if (!started.ok()) return false;
    const auto end = started->wait(5'000);
    return end && end->signal == 0 && end->exit_code == 0;
  }
  std::string space_, near_, far_, near_address_, far_address_;
};

class Cables : public Processes {
 protected:
  // A peer at the other end of the cable, which echoes.
  void link_over(const Cable& cable, const PeerSettings& settings) {
    if (GetParam() == "ucx") {
      // Shared memory would not mind.
      ::setenv("UCX_TLS", "tcp", 1);
      ::setenv("UCX_NET_DEVICES", cable.near().c_str(), 1);
    }
    listen(settings, cable.near_address() + ":0");
    ::unsetenv("UCX_TLS");
    ::unsetenv("UCX_NET_DEVICES");
    std::vector<std::pair<std::string, std::string>> environment;
    if (GetParam() == "ucx") environment = {{"UCX_TLS", "tcp"}, {"UCX_NET_DEVICES", cable.far()}};
    start_peer("echo", cable.enter(), environment);
    expect_echo();
  }
};

TEST_P(Cables, ABufferThatTakesLongerThanASilenceMayLastIsASignOfLife) {
  Cable cable;
  if (const std::string why = cable.lay(); !why.empty()) GTEST_SKIP() << "no network namespaces here: " << why;
  if (!cable.slow_down("200mbit")) GTEST_SKIP() << "no way to slow a cable down";
  link_over(cable, {.silence_ms = 1500});
  const std::vector<size_t> sizes{size_t{64} << 20};  // 2.7 s each way
  const auto begin = steady_clock::now();
  end_->send(bytes_parcel(40, sizes));
  ASSERT_TRUE(end_->wait_received(2));
  EXPECT_TRUE(is_bytes_parcel(end_->parcel(1), 40, sizes));
  EXPECT_GE(seconds_since(begin), 2 * 1.5) << "the cable was fast";
}

TEST_P(Cables, ACutOneIsNoticedAtTheLimitOfSilence) {
  Cable cable;
  if (const std::string why = cable.lay(); !why.empty()) GTEST_SKIP() << "no network namespaces here: " << why;
  // The defaults for one, less for the other: they differ in nothing but patience.
  const bool defaults = GetParam() == "tcp";
  link_over(cable, {.heartbeat_ms = 200, .silence_ms = defaults ? 5000 : 1500});
  cable.cut();
  const auto begin = steady_clock::now();
  const std::string cause = end_->wait_closed();
  EXPECT_LE(seconds_since(begin), defaults ? 5.5 : 2.0);
  EXPECT_EQ(cause, fmt::format("no sign of life from peer for {} s", defaults ? "5.0" : "1.5"));
}

INSTANTIATE_TEST_SUITE_P(Every, Processes, testing::Values("tcp", "ucx"), [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Every, Cables, testing::Values("tcp", "ucx"), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace troupe::net
