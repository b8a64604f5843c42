// Links between loops of one process: a message's object is moved, never serialised. The links' account is that of
// all others, but the other end of a process does not fall silent, so there are no heartbeats.
#pragma once
#include "runtime/net/local_node.h"

namespace troupe::net {

struct InprocNode;

// Where the transports of one process find each other. Thread-safe; copies are the same network.
class InprocNetwork {
 public:
  InprocNetwork();

 private:
  friend class InprocTransport;
  class Directory;
  std::shared_ptr<Directory> directory_;
};

// REQUIRES: loop and node outlive the transport and its links.
class InprocTransport final : public Transport {
 public:
  InprocTransport(InprocNetwork network, actor::EventLoop& loop, const LocalNode& node, LinkOptions options = {});
  ~InprocTransport() override;

  std::string_view name() const override { return "inproc"; }
  // Any text is an address; an empty one, or one that ends in ":0", is replaced by one of its own.
  Result<std::string> listen(const std::string& address, std::function<void(std::unique_ptr<Link>)> accepted) override;
  void connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) override;

 private:
  InprocNetwork network_;
  std::shared_ptr<InprocNode> own_;
  std::vector<std::string> addresses_;
};

}  // namespace troupe::net
