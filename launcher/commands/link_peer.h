// The processes that links are measured between: the first one starts the others, which run this program too, link to
// it and answer until it closes their link. What they are to do travels in their environment.
#pragma once
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor/threaded_node.h"
#include "runtime/base/process.h"
#include "runtime/net/local_node.h"
#include "runtime/wire/buffer.h"

namespace troupe::launcher {

// An answer that takes longer ends the measurement.
constexpr std::chrono::seconds kLinkPatience{20};
// Another process ends by itself after this, whatever the first one does.
constexpr std::chrono::minutes kLinkPeerLife{10};

struct LinkSetting {
  std::string transport;  // "tcp", "ucx"
  // How long both loops look for work before they sleep; 0: each message wakes a sleeping process.
  std::chrono::microseconds spin{0};
};

struct LinkPeerTask {
  LinkSetting setting;  // also "sockets"
  int answerers = 1;
  std::string address = {};  // of the first process
  std::string token = {};

  // Starts this program with `arguments`, as another process.
  Result<ChildProcess> start(const std::vector<std::string>& arguments) const;
  static Result<LinkPeerTask> from_environment();
};

class Answerer : public actor::Actor {
 public:
  int64_t echo(int64_t number) { return number; }
  int64_t take(wire::Buffer buffer) { return static_cast<int64_t>(buffer.size()); }
  using Protocol = actor::Methods<&Answerer::echo, &Answerer::take>;
};

// A node of one loop with a transport.
struct LinkSide {
  LinkSide(const net::Peer& self, const std::string& token, std::chrono::microseconds spin,
           std::function<void(const net::Peer&, const actor::Cause&)> on_link);
  Status open(const std::string& kind);

  const net::LocalNode local;
  actor::ThreadedNode node;
  net::Transport* transport = nullptr;
};

// The first process's node and the others, linked.
class LinkPeers {
 public:
  // `peer`: the arguments with which this program is to run serve_link_peer(). Errors: environment, where the
  // transport is not there.
  static Result<std::unique_ptr<LinkPeers>> start(const LinkSetting& setting, size_t count, int answerers,
                                                  const std::vector<std::string>& peer);
  // The others end with their links.
  ~LinkPeers();

  actor::Node& node() { return side_.node.node(); }
  // Of the others, by place among them.
  Result<actor::Ref<Answerer>> answerer(size_t peer, int index);

 private:
  LinkPeers(const net::Peer& self, const LinkSetting& setting, size_t count, const std::string& token);
  Status open(const LinkPeerTask& task, const std::vector<std::string>& peer);

  const size_t count_;
  std::vector<uint64_t> linking_;  // loop thread
  std::promise<std::vector<uint64_t>> linked_;
  LinkSide side_;
  std::vector<uint64_t> nodes_;
  std::vector<ChildProcess> processes_;
};

// What another process does.
Status serve_link_peer();

// Answers on bare sockets until the other end closes them.
Status serve_bare_sockets(const LinkPeerTask& task);

}  // namespace troupe::launcher
