// What the tests and the process they talk to (net_peer.cpp) agree on; travels in the environment.
#pragma once
#include <cstdlib>
#include <string>

#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"

namespace troupe::net {

struct PeerSettings {
  static constexpr const char* kToken = "the job's secret token";
  int64_t heartbeat_ms = 100;
  int64_t silence_ms = 1000;
  int64_t window_bytes = int64_t{64} << 20;

  LinkOptions options() const {
    LinkOptions options;
    options.heartbeat_every = std::chrono::milliseconds(heartbeat_ms);
    options.silence_limit = std::chrono::milliseconds(silence_ms);
    options.window_bytes = window_bytes;
    return options;
  }
  std::string to_text() const { return fmt::format("{} {} {}", heartbeat_ms, silence_ms, window_bytes); }
  static PeerSettings from_environment() {
    PeerSettings settings;
    const char* text = std::getenv("TROUPE_NET_PEER");
    if (text != nullptr) {
      char* end = nullptr;
      settings.heartbeat_ms = std::strtoll(text, &end, 10);
      settings.silence_ms = std::strtoll(end, &end, 10);
      settings.window_bytes = std::strtoll(end, &end, 10);
    }
    return settings;
  }
};

inline Result<std::unique_ptr<Transport>> make_transport(const std::string& backend, actor::ThreadLoop& loop,
                                                         const LocalNode& node, const LinkOptions& options) {
  if (backend == "ucx") return make_ucx_transport(loop, node, options);
  return std::unique_ptr<Transport>(std::make_unique<TcpTransport>(loop, node, options));
}

}  // namespace troupe::net
