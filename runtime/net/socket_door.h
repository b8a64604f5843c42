// The way in and out by TCP: listens and connects, and hands over only sockets whose other end has proved itself
// (wire/handshake.h). The tcp and ucx backends stand on it.
#pragma once
#include <boost/asio/ip/tcp.hpp>

#include "runtime/actor/thread_loop.h"
#include "runtime/net/local_node.h"

namespace troupe::net {

// REQUIRES: loop and node outlive it. Loop thread only.
class SocketDoor {
 public:
  struct Entered {
    boost::asio::ip::tcp::socket socket;  // non-blocking, TCP_NODELAY
    wire::Identity peer;
    wire::Mac to_peer;  // secrets of this connection, one for each direction
    wire::Mac from_peer;
  };
  // Makes what the backend wants the peer to know of this connection (Identity::transport).
  using Describe = std::function<std::vector<std::byte>()>;

  // Nothing has been promised about the connection's further use: backends tell each other apart by
  // Identity::transport.
  SocketDoor(actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options, Describe describe = {});
  // Connections that have not yet entered are dropped, and their callbacks with them.
  ~SocketDoor();

  // Why a caller was not let in, and from which address; for a log.
  void on_refused(std::function<void(const Error&)> refused);
  // Transport::resolve().
  static Result<std::string> resolve(const std::string& address);
  // Errors (usage): the address is no number.
  Result<std::string> listen(const std::string& address, std::function<void(Entered)> entered);
  void connect(const std::string& address, std::function<void(Result<Entered>)> entered);

 private:
  struct Room;
  class Accepting;
  class Entering;
  class Dialing;
  std::shared_ptr<Room> room_;
};

}  // namespace troupe::net
