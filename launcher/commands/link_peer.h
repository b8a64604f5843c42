// What the two processes of a link's measurement agree on; travels in the environment of the second.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "runtime/base/process.h"

namespace troupe::launcher {

// An answer that takes longer ends the measurement.
constexpr std::chrono::seconds kLinkPatience{20};
// The second process ends by itself after this, whatever the first one does.
constexpr std::chrono::minutes kLinkPeerLife{10};

struct LinkPeerTask {
  std::string transport;  // "tcp", "ucx", "sockets"
  int64_t spin_us = 0;
  std::string address;  // of the first process
  std::string token;

  // Starts this program with `arguments`, as the second process.
  Result<ChildProcess> start(const std::vector<std::string>& arguments) const;
  static Result<LinkPeerTask> from_environment();
};

// Answers on bare sockets until the other end closes them.
Status serve_bare_sockets(const LinkPeerTask& task);

}  // namespace troupe::launcher
