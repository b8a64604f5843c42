// What two nodes say to each other before anything else is parsed: both prove that they know the job's token, then
// say who they are. A pure state machine; whoever owns the connection moves the bytes.
//
//   dialer → listener  hello     "TROUPE\r\n", u16 protocol, 6 zero bytes, 32 bytes nonce
//   listener → dialer  hello     the same
//   dialer → listener  identity  u32 length, its bytes, 32 bytes HMAC-SHA256
//   listener → dialer  identity  or a refusal: u32 0xFFFFFFFF, u8 code, 7 zero bytes
//
// The HMAC's key is the token; its text is the role ("dialer" or "listener"), both nonces, and the identity: nothing
// that was heard can be used again, or in the other direction. A listener says nothing about itself to who does not
// know the token. Identities are not secret; connections are authenticated, not encrypted.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace troupe::wire {

constexpr uint16_t kProtocol = 2;

using Nonce = std::array<std::byte, 32>;
using Mac = std::array<std::byte, 32>;

// From the operating system. Errors (environment): it has none.
Result<Nonce> random_nonce();
// A job's token, which its nodes prove to each other that they know; in hexadecimal.
Result<std::string> random_token();
Mac hmac_sha256(std::string_view key, std::span<const std::byte> text);

// What a node says about itself.
struct Identity {
  uint64_t node = 0;  // unique for each start of a process
  std::string name;
  std::string host;
  int64_t pid = 0;
  uint64_t generation = 0;
  std::string build;  // programs of different builds do not understand each other's messages
  // What it is ready to take.
  int64_t window = 0;
  int64_t window_bytes = 0;
  int64_t max_frame_bytes = 0;
  int64_t max_buffer_bytes = 0;
  int64_t heartbeat_every_ms = 0;    // that it gives a sign of life; at most a day; 0: never
  std::vector<std::byte> transport;  // the transport's own: a UCX worker's address

  // "trainer-3 (host gpu17, pid 411)"
  std::string describe() const;
};

class Handshake {
 public:
  enum class Role { dialer, listener };

  // REQUIRES: a token; a nonce that was never used before; check_length(self).
  Handshake(Role role, Identity self, std::string token, const Nonce& nonce, uint16_t protocol = kProtocol);

  // How many bytes receive() takes next; 0: none, it has ended.
  size_t wants() const { return wants_; }
  // REQUIRES: wants() bytes. Errors: the peer is refused, or has refused; what take_output() has is still to be sent.
  Status receive(std::span<const std::byte> bytes);
  // What is to be sent now. A listener says nothing first.
  std::vector<std::byte> take_output();
  // Both sides have proved themselves.
  bool done() const { return state_ == State::done; }
  // REQUIRES: done().
  const Identity& peer() const { return peer_; }
  // A secret that both sides know and nobody else, different for each connection and each label. REQUIRES: done().
  Mac derive(std::string_view label) const;

 private:
  enum class State { hello, identity_length, identity, refusal, done, ended };
  Status receive_hello(std::span<const std::byte> bytes);
  Status receive_identity(std::span<const std::byte> bytes);
  Status receive_refusal(std::span<const std::byte> bytes);
  Error refuse(uint8_t code, Error error);
  void say_hello();
  void say_identity();
  Mac prove(Role role, std::span<const std::byte> identity) const;

  const Role role_;
  const Identity self_;
  const std::string token_;
  const uint16_t protocol_;
  Nonce nonce_;
  Nonce peer_nonce_{};
  Identity peer_;
  State state_ = State::hello;
  size_t wants_;
  std::vector<std::byte> output_;
};

// Whether an identity is short enough for a handshake. Errors (failed): both sizes.
Status check_length(const Identity& identity);

// Whether two nodes of one job may talk: same build, and the listener is not told anything by an older generation,
// nor the dialer by an older listener. The error is what the side of `self` says.
Status check_identity(const Identity& self, const Identity& peer, Handshake::Role role);

}  // namespace troupe::wire
