// Links over TCP. Small frames are gathered into one write; large buffers are written from their own memory and read
// into their final memory.
#pragma once
#include "runtime/net/socket_door.h"

namespace troupe::net {

// REQUIRES: loop and node outlive the transport and its links.
class TcpTransport final : public Transport {
 public:
  TcpTransport(actor::ThreadLoop& loop, const LocalNode& node, LinkOptions options = {});

  std::string_view name() const override { return "tcp"; }
  Result<std::string> resolve(const std::string& address) const override { return SocketDoor::resolve(address); }
  // "10.0.0.7:4711"; an empty address is "127.0.0.1:0". To connect() names will do.
  Result<std::string> listen(const std::string& address, std::function<void(std::unique_ptr<Link>)> accepted) override;
  void connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) override;
  void on_refused(std::function<void(const Error&)> refused) override { door_.on_refused(std::move(refused)); }

 private:
  struct Common;
  std::unique_ptr<Link> make_link(SocketDoor::Entered entered) const;

  std::shared_ptr<Common> common_;
  SocketDoor door_;
};

}  // namespace troupe::net
