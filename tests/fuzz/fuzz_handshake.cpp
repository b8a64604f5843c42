#include "runtime/base/check.h"
#include "runtime/wire/bytes.h"
#include "runtime/wire/handshake.h"
#include "tests/fuzz/fuzz.h"

namespace troupe::fuzz {
namespace {

using Bytes = std::span<const std::byte>;
using Role = wire::Handshake::Role;

constexpr const char* kToken = "a token that no fuzzer guesses";
constexpr size_t kHelloBytes = 48, kNonceAt = 16;

wire::Identity own_identity() {
  wire::Identity self;
  self.name = "listener";
  self.build = "build";
  self.window = self.window_bytes = self.max_frame_bytes = self.max_buffer_bytes = 1;
  return self;
}

// Feeds a stranger's bytes.
void untrusted(wire::Handshake& handshake, Bytes rest) {
  while (handshake.wants() > 0 && handshake.wants() <= rest.size()) {
    TROUPE_CHECK(handshake.wants() < 32 * 1024, "a stranger makes us wait for {} bytes", handshake.wants());
    const auto bytes = rest.first(handshake.wants());
    rest = rest.subspan(bytes.size());
    if (!handshake.receive(bytes).ok()) TROUPE_CHECK(handshake.wants() == 0, "a refused handshake goes on");
    handshake.take_output();
  }
  TROUPE_CHECK(!handshake.done(), "somebody got in without the token");
}

// A peer that knows the token says hello, then all that is left as its identity, with the proof that belongs to it.
void trusted(Role role, wire::Handshake& handshake, Bytes rest) {
  if (rest.size() < kHelloBytes || !handshake.receive(rest.first(kHelloBytes)).ok()) return;
  const Bytes peer_nonce = rest.subspan(kNonceAt, sizeof(wire::Nonce)), identity = rest.subspan(kHelloBytes);
  const wire::Nonce own_nonce{};
  const bool dials = role == Role::dialer;
  std::vector<std::byte> text;
  wire::append(text, wire::bytes_of("troupe handshake "));
  wire::append(text, wire::bytes_of(dials ? "listener" : "dialer"));
  wire::append(text, std::array{std::byte{0}});
  wire::append(text, dials ? Bytes(own_nonce) : peer_nonce);
  wire::append(text, dials ? peer_nonce : Bytes(own_nonce));
  wire::append(text, identity);
  std::array<std::byte, 4> length;
  wire::store<uint32_t>(length.data(), static_cast<uint32_t>(identity.size()));
  if (!handshake.receive(length).ok()) return;
  std::vector<std::byte> proved(identity.begin(), identity.end());
  wire::append(proved, wire::hmac_sha256(kToken, text));
  const Status received = handshake.receive(proved);
  TROUPE_CHECK(received.ok() == handshake.done());
  if (!received.ok()) {
    TROUPE_CHECK(received.error().message() != "wrong token", "the proof was right");
    return;
  }
  const wire::Identity& peer = handshake.peer();
  TROUPE_CHECK(peer.build == "build" && peer.heartbeat_every_ms >= 0);
  for (const int64_t limit : {peer.window, peer.window_bytes, peer.max_frame_bytes, peer.max_buffer_bytes})
    TROUPE_CHECK(limit > 0, "a peer that takes nothing");
  for (const char c : peer.describe()) TROUPE_CHECK(static_cast<unsigned char>(c) >= 0x20, "a forged line");
  (void)handshake.derive("x");
}

}  // namespace

void handshake(std::span<const uint8_t> input) {
  if (input.empty()) return;
  const auto role = (input[0] & 1) == 0 ? Role::dialer : Role::listener;
  wire::Handshake handshake(role, own_identity(), kToken, wire::Nonce{});
  const Bytes rest = std::as_bytes(input.subspan(1));
  if ((input[0] & 2) == 0) untrusted(handshake, rest);
  else trusted(role, handshake, rest);
}

}  // namespace troupe::fuzz
