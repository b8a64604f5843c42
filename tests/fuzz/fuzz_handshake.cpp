#include "runtime/base/check.h"
#include "runtime/wire/handshake.h"
#include "tests/fuzz/fuzz.h"

namespace troupe::fuzz {

void handshake(std::span<const uint8_t> input) {
  if (input.empty()) return;
  wire::Identity self;
  self.name = "listener";
  self.build = "build";
  self.window = self.window_bytes = self.max_frame_bytes = self.max_buffer_bytes = 1;
  const auto role = input[0] % 2 == 0 ? wire::Handshake::Role::dialer : wire::Handshake::Role::listener;
  wire::Handshake handshake(role, self, "a token that no fuzzer guesses", wire::Nonce{});
  auto rest = std::as_bytes(input.subspan(1));
  while (handshake.wants() > 0 && handshake.wants() <= rest.size()) {
    TROUPE_CHECK(handshake.wants() < 32 * 1024, "a stranger makes us wait for {} bytes", handshake.wants());
    const auto bytes = rest.first(handshake.wants());
    rest = rest.subspan(bytes.size());
    if (!handshake.receive(bytes).ok()) TROUPE_CHECK(handshake.wants() == 0, "a refused handshake goes on");
    handshake.take_output();
  }
  TROUPE_CHECK(!handshake.done(), "somebody got in without the token");
}

}  // namespace troupe::fuzz
