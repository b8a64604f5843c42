// What this process says of itself to other nodes, and what it asks of them.
#pragma once
#include <atomic>
#include <string>

#include "runtime/net/transport.h"
#include "runtime/wire/handshake.h"

namespace troupe::net {

class LocalNode {
 public:
  // REQUIRES: a token. `self.generation` is the first one.
  LocalNode(Peer self, std::string build, std::string token);
  // This process, with a number that no other start of a process has. Errors (environment): no random numbers.
  static Result<Peer> here(std::string name, uint64_t generation);

  const Peer& self() const { return self_; }
  const std::string& build() const { return build_; }
  const std::string& token() const { return token_; }
  // Peers of an older generation are refused, and their frames dropped. Any thread.
  uint64_t generation() const { return generation_.load(std::memory_order_relaxed); }
  // REQUIRES: not less than before.
  void enter_generation(uint64_t generation);

  wire::Identity identity(const LinkOptions& options) const;

 private:
  const Peer self_;
  const std::string build_;
  const std::string token_;
  std::atomic<uint64_t> generation_;
};

// What two nodes of one process learn of each other without a handshake.
struct Introduction {
  Peer dialer, listener;
  LinkOptions options_of_dialer, options_of_listener;
};
// Errors: why they may not link, as the handshake would say it.
Result<Introduction> introduce(const LocalNode& dialer, const LinkOptions& of_dialer, const LocalNode& listener,
                               const LinkOptions& of_listener);

// The running program's build id (the linker's note, or else a hash of the program's file), in hexadecimal.
std::string program_build();

Peer peer_of(const wire::Identity& identity);
// Throws CheckFailure where an option is one that no link can have.
void check(const LinkOptions& options);
// The smaller one of each limit; the more frequent signs of life, and so much patience that they can come.
LinkOptions joint_options(LinkOptions own, const wire::Identity& peer);

}  // namespace troupe::net
