#include "runtime/wire/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/wire/bytes.h"

namespace troupe::wire {
namespace {

constexpr std::string_view kGreeting = "TROUPE\r\n";
constexpr size_t kHelloBytes = 48;
constexpr size_t kMostIdentityBytes = 16 * 1024;
constexpr size_t kMostTextBytes = 1024;
constexpr int64_t kMostHeartbeatMs = 24 * 3600 * 1000;
constexpr uint32_t kRefusal = 0xFFFFFFFF;
constexpr size_t kRefusalBytes = 8;

// Codes of refusals. What they say about the listener stands in the numbers, never in text.
constexpr uint8_t kWrongToken = 1;
constexpr uint8_t kOldGeneration = 2;
constexpr uint8_t kOtherBuild = 3;
constexpr uint8_t kMalformed = 4;

void append_text(std::vector<std::byte>& out, std::string_view text) {
  text = text.substr(0, kMostTextBytes);
  std::array<std::byte, 2> length;
  store<uint16_t>(length.data(), static_cast<uint16_t>(text.size()));
  append(out, length);
  append(out, bytes_of(text));
}

void append_number(std::vector<std::byte>& out, uint64_t number) {
  std::array<std::byte, 8> bytes;
  store<uint64_t>(bytes.data(), number);
  append(out, bytes);
}

std::vector<std::byte> encode(const Identity& identity) {
  std::vector<std::byte> out;
  append_number(out, identity.node);
  append_number(out, static_cast<uint64_t>(identity.pid));
  append_number(out, identity.generation);
  append_number(out, static_cast<uint64_t>(identity.window));
  append_number(out, static_cast<uint64_t>(identity.window_bytes));
  append_number(out, static_cast<uint64_t>(identity.max_frame_bytes));
  append_number(out, static_cast<uint64_t>(identity.max_buffer_bytes));
  append_number(out, static_cast<uint64_t>(identity.heartbeat_every_ms));
  append_text(out, identity.name);
  append_text(out, identity.host);
  append_text(out, identity.build);
  append(out, identity.transport);  // to the end
  return out;
}

// Takes fields off the front; once something is missing, everything is.
class FieldReader {
 public:
  explicit FieldReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t number() {
    const auto taken = take(8);
    return ok_ ? load<uint64_t>(taken.data()) : 0;
  }
  int64_t positive_number() { return number_between(1, std::numeric_limits<int64_t>::max()); }
  int64_t number_between(int64_t least, int64_t most) {
    const auto value = static_cast<int64_t>(number());
    ok_ = ok_ && value >= least && value <= most;
    return value;
  }
  std::string text() {
    const auto length = take(2);
    const auto taken = take(ok_ ? load<uint16_t>(length.data()) : 0);
    std::string text(text_of(taken));
    // It will stand in log lines.
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
  }
  std::span<const std::byte> rest() { return take(bytes_.size()); }
  bool ok() const { return ok_; }

 private:
  std::span<const std::byte> take(size_t size) {
    ok_ = ok_ && size <= bytes_.size();
    if (!ok_) return {};
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

std::optional<Identity> decode(std::span<const std::byte> bytes) {
  FieldReader reader(bytes);
  Identity identity;
  identity.node = reader.number();
  identity.pid = static_cast<int64_t>(reader.number());
  identity.generation = reader.number();
  identity.window = reader.positive_number();
  identity.window_bytes = reader.positive_number();
  identity.max_frame_bytes = reader.positive_number();
  identity.max_buffer_bytes = reader.positive_number();
  identity.heartbeat_every_ms = reader.number_between(0, kMostHeartbeatMs);
  identity.name = reader.text();
  identity.host = reader.text();
  identity.build = reader.text();
  const auto transport = reader.rest();
  if (!reader.ok()) return std::nullopt;
  identity.transport.assign(transport.begin(), transport.end());
  return identity;
}

const char* role_name(Handshake::Role role) { return role == Handshake::Role::dialer ? "dialer" : "listener"; }

Handshake::Role other(Handshake::Role role) {
  return role == Handshake::Role::dialer ? Handshake::Role::listener : Handshake::Role::dialer;
}

}  // namespace

Result<Nonce> random_nonce() {
  Nonce nonce;
  size_t filled = 0;
  while (filled < nonce.size()) {
    const ssize_t got = ::getrandom(nonce.data() + filled, nonce.size() - filled, 0);
    if (got < 0 && errno != EINTR) return environment_error("no random numbers: {}", std::strerror(errno));
    if (got > 0) filled += static_cast<size_t>(got);
  }
  return nonce;
}

Result<std::string> random_token() {
  std::string token;
  for (const std::byte byte : TROUPE_TRY(random_nonce())) token += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return token;
}

Mac hmac_sha256(std::string_view key, std::span<const std::byte> text) {
  Mac mac;
  unsigned length = 0;
  const unsigned char* made = ::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()),
                                     reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                                     reinterpret_cast<unsigned char*>(mac.data()), &length);
  TROUPE_CHECK(made != nullptr && length == mac.size(), "libcrypto cannot compute HMAC-SHA256");
  return mac;
}

std::string Identity::describe() const { return fmt::format("{} (host {}, pid {})", name, host, pid); }

Status check_length(const Identity& identity) {
  const size_t bytes = encode(identity).size();
  if (bytes <= kMostIdentityBytes) return {};
  return failed("what {} says of itself has {} bytes, {} of them the address of its transport; a handshake takes {}",
                identity.name, bytes, identity.transport.size(), kMostIdentityBytes);
}

Status check_identity(const Identity& self, const Identity& peer, Handshake::Role role) {
  if (peer.build != self.build) {
    return failed("{} is of build {}, {} of build {}: run one program everywhere", peer.describe(), peer.build,
                  self.name, self.build);
  }
  if (peer.generation < self.generation) {
    return failed("{} belongs to generation {}, {} to generation {}: {} is stale", peer.describe(), peer.generation,
                  self.name, self.generation, role == Handshake::Role::listener ? "the caller" : "who was called");
  }
  return {};
}

Handshake::Handshake(Role role, Identity self, std::string token, const Nonce& nonce, uint16_t protocol)
    : role_(role),
      self_(std::move(self)),
      token_(std::move(token)),
      protocol_(protocol),
      nonce_(nonce),
      wants_(kHelloBytes) {
  TROUPE_CHECK(!token_.empty(), "a handshake needs the job's token");
  TROUPE_CHECK(check_length(self_).ok(), "an identity of {} bytes", encode(self_).size());
  if (role_ == Role::dialer) say_hello();
}

std::vector<std::byte> Handshake::take_output() { return std::exchange(output_, {}); }

Mac Handshake::prove(Role role, std::span<const std::byte> identity) const {
  std::vector<std::byte> text;
  append(text, bytes_of("troupe handshake "));
  append(text, bytes_of(role_name(role)));
  append(text, std::array{std::byte{0}});
  append(text, role_ == Role::dialer ? nonce_ : peer_nonce_);
  append(text, role_ == Role::dialer ? peer_nonce_ : nonce_);
  append(text, identity);
  return hmac_sha256(token_, text);
}

Mac Handshake::derive(std::string_view label) const {
  TROUPE_CHECK(done(), "no secret before both sides have proved themselves");
  std::vector<std::byte> text;
  append(text, bytes_of("troupe secret "));
  append(text, bytes_of(label));
  append(text, std::array{std::byte{0}});
  append(text, role_ == Role::dialer ? nonce_ : peer_nonce_);
  append(text, role_ == Role::dialer ? peer_nonce_ : nonce_);
  return hmac_sha256(token_, text);
}

void Handshake::say_hello() {
  append(output_, bytes_of(kGreeting));
  std::array<std::byte, 8> version{};
  store<uint16_t>(version.data(), protocol_);
  append(output_, version);
  append(output_, nonce_);
}

void Handshake::say_identity() {
  const std::vector<std::byte> identity = encode(self_);
  std::array<std::byte, 4> length;
  store<uint32_t>(length.data(), static_cast<uint32_t>(identity.size()));
  append(output_, length);
  append(output_, identity);
  append(output_, prove(role_, identity));
}

Error Handshake::refuse(uint8_t code, Error error) {
  // Only a listener says so: a dialer hangs up.
  if (role_ == Role::listener) {
    std::array<std::byte, 4 + kRefusalBytes> refusal{};
    store<uint32_t>(refusal.data(), kRefusal);
    store<uint8_t>(refusal.data() + 4, code);
    // After the token was proved, the number that a user needs may be told.
    if (code == kOldGeneration) {
      store<uint32_t>(refusal.data() + 8, static_cast<uint32_t>(std::min<uint64_t>(self_.generation, 0xFFFFFFFF)));
    }
    append(output_, refusal);
  }
  state_ = State::ended;
  wants_ = 0;
  return error;
}

Status Handshake::receive(std::span<const std::byte> bytes) {
  TROUPE_CHECK(wants_ > 0 && bytes.size() == wants_, "{} bytes of a handshake where {} are due", bytes.size(), wants_);
  switch (state_) {
    case State::hello: return receive_hello(bytes);
    case State::identity_length: {
      const auto length = load<uint32_t>(bytes.data());
      if (length == kRefusal && role_ == Role::dialer) {
        state_ = State::refusal;
        wants_ = kRefusalBytes;
        return {};
      }
      if (length > kMostIdentityBytes) return refuse(kMalformed, failed("who connected does not speak our protocol"));
      state_ = State::identity;
      wants_ = length + sizeof(Mac);
      return {};
    }
    case State::identity: return receive_identity(bytes);
    case State::refusal: return receive_refusal(bytes);
    default: return failed("the handshake is over");
  }
}

Status Handshake::receive_hello(std::span<const std::byte> bytes) {
  wants_ = 0;
  state_ = State::ended;
  if (text_of(bytes.first(kGreeting.size())) != kGreeting) {
    return failed("{} does not speak our protocol", role_ == Role::dialer ? "who answered" : "who connected");
  }
  const auto protocol = load<uint16_t>(bytes.data() + 8);
  std::copy_n(bytes.begin() + 16, peer_nonce_.size(), peer_nonce_.begin());
  if (role_ == Role::listener) say_hello();  // also to another version: it can then say which is which
  if (protocol != protocol_) {
    return failed("the other side speaks version {} of our protocol, this one version {}: run one program everywhere",
                  protocol, protocol_);
  }
  if (peer_nonce_ == nonce_) return failed("the other side repeats our own challenge");
  if (role_ == Role::dialer) say_identity();
  state_ = State::identity_length;
  wants_ = 4;
  return {};
}

Status Handshake::receive_identity(std::span<const std::byte> bytes) {
  const auto identity = bytes.first(bytes.size() - sizeof(Mac));
  const Mac expected = prove(other(role_), identity);
  if (::CRYPTO_memcmp(expected.data(), bytes.data() + identity.size(), sizeof(Mac)) != 0) {
    return refuse(kWrongToken, failed("wrong token"));
  }
  auto peer = decode(identity);
  if (!peer) return refuse(kMalformed, failed("the other side's identity is malformed"));
  peer_ = std::move(*peer);
  if (Status checked = check_identity(self_, peer_, role_); !checked.ok()) {
    return refuse(peer_.build != self_.build ? kOtherBuild : kOldGeneration, std::move(checked).error());
  }
  if (role_ == Role::listener) say_identity();
  state_ = State::done;
  wants_ = 0;
  return {};
}

Status Handshake::receive_refusal(std::span<const std::byte> bytes) {
  state_ = State::ended;
  wants_ = 0;
  switch (load<uint8_t>(bytes.data())) {
    case kWrongToken: return failed("wrong token");
    case kOldGeneration:
      return failed("refused: {} belongs to generation {}, who was called to generation {}", self_.name,
                    self_.generation, load<uint32_t>(bytes.data() + 4));
    case kOtherBuild:
      return failed("refused: {} is of build {}, who was called of another: run one program everywhere", self_.name,
                    self_.build);
    default: return failed("refused: the other side does not understand this one");
  }
}

}  // namespace troupe::wire
