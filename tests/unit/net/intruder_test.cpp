// Who comes to the port uninvited, and a peer that knows the token but not the rules.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>

#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"
#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"
#include "tests/unit/net/peer_settings.h"
#include "tests/unit/net/transport_conformance.h"

namespace troupe::net {
namespace {

// A blocking socket; every wait ends after kPatience.
class RawSocket {
 public:
  explicit RawSocket(const std::string& address) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const timeval limit{kPatience.count(), 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }
  ~RawSocket() { ::close(socket_); }

  void send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the other side has hung up, as it may
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
  }
  // Up to `size` bytes; fewer at the end of the stream.
  std::vector<std::byte> receive(size_t size) {
    std::vector<std::byte> bytes(size);
    size_t filled = 0;
    while (filled < size) {
      const ssize_t got = ::recv(socket_, bytes.data() + filled, size - filled, 0);
      if (got < 0 && errno != ECONNRESET) ADD_FAILURE() << "the other side does not hang up";
      over_ = got == 0 || (got < 0 && errno == ECONNRESET);
      if (got <= 0) break;
      filled += static_cast<size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
  }
  bool hangs_up() {
    while (receive(4096).size() == 4096) {
    }
    return over_;
  }
  // Goes through the handshake as a dialer.
  Status enter(const std::string& token, uint16_t protocol = wire::kProtocol) {
    const auto self = LocalNode::here("intruder", 1);
    const LocalNode node(*self, "build-1", token);
    wire::Handshake handshake(wire::Handshake::Role::dialer, node.identity({}), token, *wire::random_nonce(), protocol);
    send(handshake.take_output());
    while (handshake.wants() > 0) {
      const auto bytes = receive(handshake.wants());
      if (bytes.size() < handshake.wants()) return failed("hung up");
      TROUPE_TRY(handshake.receive(bytes));
      send(handshake.take_output());
    }
    return {};
  }

 private:
  int socket_;
  bool over_ = false;
};

class Intruder : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "ucx" && !has_ucx()) GTEST_SKIP() << "ucx is not there";
    const Backend backend =
        threaded(GetParam(), "", [this](actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options) {
          auto transport = std::move(make_transport(GetParam(), loop, node, options)).value();
          transport->on_refused([this](const Error& why) {
            const std::lock_guard lock(mutex_);
            refused_.push_back(why.message());
            changed_.notify_all();
          });
          return transport;
        });
    LinkOptions options;
    options.handshake_deadline = std::chrono::milliseconds(300);
    options.silence_limit = std::chrono::milliseconds(600);
    options.heartbeat_every = std::chrono::milliseconds(100);
    options.max_frame_bytes = 1 << 20;
    node_ = std::make_unique<TestNode>(backend, options, NodeSettings{.name = "head"});
    friend_ = std::make_unique<TestNode>(backend, options, NodeSettings{.name = "friend"});
    address_ = node_->listen();
    auto link = friend_->connect(address_);
    ASSERT_TRUE(link.ok()) << link.error().message();
    near_ = std::make_unique<LinkEnd>(*node_, node_->accept());
    far_ = std::make_unique<LinkEnd>(*friend_, std::move(link).value());
  }
  void TearDown() override {
    if (far_ == nullptr) return;
    // Whatever the intruder did: the friend's link works, and others get in.
    far_->send(text_parcel("still here"));
    EXPECT_TRUE(near_->wait_received(1));
    EXPECT_FALSE(near_->closed());
    const auto link = friend_->connect(address_);
    EXPECT_TRUE(link.ok()) << link.error().message();
    friend_->run([&] { const_cast<Result<std::unique_ptr<Link>>&>(link).value().reset(); });
    far_.reset();
    near_.reset();
    friend_.reset();
    node_.reset();
  }
  std::string wait_refused() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return !refused_.empty(); })) return "nobody was refused";
    const std::string why = refused_.front();
    refused_.erase(refused_.begin());
    return why;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> refused_;
  std::unique_ptr<TestNode> node_, friend_;
  std::string address_;
  std::unique_ptr<LinkEnd> near_, far_;
};

// Of links that were let in, beside the friend's.
class BadPeer : public Intruder {
 protected:
  void SetUp() override {
    Intruder::SetUp();
    if (far_ == nullptr) return;
    socket_ = std::make_unique<RawSocket>(address_);
    ASSERT_TRUE(socket_->enter("the job's secret token").ok());
    link_ = std::make_unique<LinkEnd>(*node_, node_->accept());
  }
  void TearDown() override {
    link_.reset();
    Intruder::TearDown();
  }
  static std::vector<std::byte> frame(uint64_t sequence, wire::FrameKind kind = wire::FrameKind::message) {
    std::vector<std::byte> bytes;
    wire::Header header;
    header.kind = kind;
    header.sequence = sequence;
    header.generation = 1;
    wire::append_frame_head(header, {}, bytes);
    return bytes;
  }
  std::unique_ptr<RawSocket> socket_;
  std::unique_ptr<LinkEnd> link_;
};

TEST_P(Intruder, NoiseIsHungUpOn) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20; ++i) {
    RawSocket socket(address_);
    std::vector<std::byte> noise(100 + random() % 10'000);
    for (std::byte& b : noise) b = static_cast<std::byte>(random());
    socket.send(noise);
    EXPECT_TRUE(socket.hangs_up());
    EXPECT_NE(wait_refused().find("who connected does not speak our protocol"), std::string::npos);
  }
}

TEST_P(Intruder, AWebBrowserIsHungUpOn) {
  RawSocket socket(address_);
  socket.send(wire::bytes_of("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser that was led here\r\n\r\n"));
  EXPECT_TRUE(socket.receive(1).empty()) << "a stranger is told nothing";
}

TEST_P(Intruder, HalfAHelloAndThenSilenceIsNotWaitedForLong) {
  RawSocket socket(address_);
  socket.send(wire::bytes_of("TROUPE\r\n"));
  EXPECT_TRUE(socket.hangs_up());
  EXPECT_NE(wait_refused().find("no handshake within 0.3 s"), std::string::npos);
}

TEST_P(Intruder, WhoHangsUpAtOnceLeavesNoTrace) {
  for (int i = 0; i < 50; ++i) RawSocket socket(address_);
  EXPECT_NE(wait_refused().find("hung up during the handshake"), std::string::npos);
}

TEST_P(Intruder, ACrowdOfSilentCallersKeepsNobodyOut) {
  std::vector<std::unique_ptr<RawSocket>> crowd;
  for (int i = 0; i < 300; ++i) crowd.push_back(std::make_unique<RawSocket>(address_));
  auto link = friend_->connect(address_);
  EXPECT_TRUE(link.ok()) << link.error().message();
  friend_->run([&] { link->reset(); });
  EXPECT_THAT(wait_refused(), testing::HasSubstr("too many callers"));
  for (const auto& socket : crowd) EXPECT_TRUE(socket->hangs_up());
}

TEST_P(Intruder, AWrongTokenIsRefusedWithoutAWordMore) {
  RawSocket socket(address_);
  const Status entered = socket.enter("a guess");
  ASSERT_FALSE(entered.ok());
  EXPECT_EQ(entered.error().message(), "wrong token");
  EXPECT_NE(wait_refused().find("wrong token"), std::string::npos);
}

TEST_P(Intruder, AnotherProtocolIsRefusedAndBothVersionsNamed) {
  RawSocket socket(address_);
  const Status entered = socket.enter("the job's secret token", 99);
  ASSERT_FALSE(entered.ok());
  EXPECT_NE(
      entered.error().message().find(fmt::format("version {} of our protocol, this one version 99", wire::kProtocol)),
      std::string::npos);
  EXPECT_NE(wait_refused().find(fmt::format("version 99 of our protocol, this one version {}", wire::kProtocol)),
            std::string::npos);
}

TEST_P(BadPeer, NoiseInsteadOfAFrameClosesTheLink) {
  socket_->send(std::vector<std::byte>(500, std::byte{0x41}));
  EXPECT_EQ(link_->wait_closed(), "link to intruder: what arrived is not a frame");
}

TEST_P(BadPeer, HalfAFrameAndThenSilenceClosesTheLink) {
  socket_->send(std::span<const std::byte>(frame(1)).first(50));
  EXPECT_EQ(link_->wait_closed(), "no sign of life from intruder for 0.6 s");
}

TEST_P(BadPeer, AHugeLengthClosesTheLink) {
  std::vector<std::byte> bytes;
  static std::byte one;
  wire::Body body;
  body.buffers.emplace_back(std::span<const std::byte>(&one, size_t{1} << 60), nullptr);
  wire::append_frame_head({}, body, bytes);
  socket_->send(bytes);
  EXPECT_EQ(link_->wait_closed(),
            "link to intruder: a message with 1152921504606846976 bytes of buffers; the limit is 17179869184");
}

TEST_P(BadPeer, AFrameThatIsRepeatedOrLeftOutClosesTheLink) {
  socket_->send(frame(1, wire::FrameKind::heartbeat));
  socket_->send(frame(3, wire::FrameKind::heartbeat));
  EXPECT_EQ(link_->wait_closed(), "frame 3 of intruder came where 2 was due");
}

TEST_P(BadPeer, CreditForWhatWasNeverSentClosesTheLink) {
  std::vector<std::byte> bytes;
  wire::Header header;
  header.kind = wire::FrameKind::credit;
  header.sequence = 1;
  header.destination = ~uint64_t{0};
  wire::append_frame_head(header, {}, bytes);
  socket_->send(bytes);
  EXPECT_EQ(link_->wait_closed(), "intruder gives credit for more than was sent");
}

INSTANTIATE_TEST_SUITE_P(Every, Intruder, testing::Values("tcp", "ucx"), [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Every, BadPeer, testing::Values("tcp"), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace troupe::net
