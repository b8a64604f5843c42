#include "runtime/net/tcp.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <cerrno>
#include <cstring>

#include "runtime/net/frame_writer.h"
#include "runtime/net/link_state.h"

namespace troupe::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// Frames are gathered up to this size; more wait in the account, where system parcels can pass them.
constexpr size_t kBatchBytes = 256 * 1024;
constexpr size_t kBatchPieces = 64;

class TcpLink final : public LinkState {
 public:
  TcpLink(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options, tcp::socket socket,
          std::shared_ptr<wire::BufferPool> pool)
      : LinkState(loop, node, std::move(peer), options),
        socket_(std::move(socket)),
        pool_(std::move(pool)),
        parser_({options.max_frame_bytes, options.max_buffer_bytes}, *pool_) {}

 protected:
  void open() override { read(); }

  void pump() override {
    while (!writing_) {
      while (core().has_output() && writer_.bytes() < kBatchBytes) writer_.add(core().next(now()));
      if (writer_.empty()) return;
      while (!writer_.empty()) {
        if (!write_some()) return;
      }
    }
  }

  void finish() override {
    goodbye_ = true;
    if (writer_.empty()) half_close();
  }

  void shut() noexcept override {
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  std::shared_ptr<TcpLink> self() { return std::static_pointer_cast<TcpLink>(shared_from_this()); }

  // False: the socket takes no more now, or is gone.
  bool write_some() {
    std::array<iovec, kBatchPieces> pieces;
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = writer_.gather(pieces);
    const ssize_t wrote = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (wrote >= 0) {
      writer_.wrote(static_cast<size_t>(wrote));
      return true;
    }
    if (errno == EINTR) return true;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      // What the peer said last may still lie in our receive buffer: reading tells the cause.
      write_error_ = errno;
      writing_ = true;
      return false;
    }
    writing_ = true;
    socket_.async_wait(tcp::socket::wait_write, [self = self()](const error_code& error) {
      if (error || self->is_shut()) return;
      self->writing_ = false;
      self->pump();
      if (self->goodbye_ && !self->is_shut() && self->writer_.empty()) self->half_close();
      self->schedule();
    });
    return false;
  }

  // The peer reads to the end, then closes; only then do we.
  void half_close() {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }

  void read() {
    const auto space = parser_.space();
    const std::array buffers{asio::buffer(space[0].data(), space[0].size()),
                             asio::buffer(space[1].data(), space[1].size())};
    socket_.async_read_some(buffers, [self = self()](const error_code& error, size_t bytes) {
      if (self->is_shut()) return;
      if (error) return self->ended(error);
      self->received(bytes);
    });
  }

  void received(size_t bytes) {
    heard();
    parser_.filled(bytes);
    while (true) {
      auto frame = parser_.next();
      if (!frame.ok()) return lost(std::move(frame).error().within(fmt::format("link to {}", peer().name)));
      if (!*frame) break;
      if (!arrived({(*frame)->header, nullptr, std::move((*frame)->body)})) return;
    }
    read();
  }

  void ended(const error_code& error) {
    if (is_closing()) return drained();
    if (error == asio::error::eof && !parser_.midway()) return lost(failed("{} closed the connection", peer().name));
    if (error == asio::error::eof || error == asio::error::connection_reset) {
      return lost(failed("{} is gone: the connection broke off", peer().name));
    }
    lost(failed("link to {}: {}", peer().name, write_error_ != 0 ? std::strerror(write_error_) : error.message()));
  }

  tcp::socket socket_;
  const std::shared_ptr<wire::BufferPool> pool_;
  wire::FrameParser parser_;
  FrameWriter writer_;
  bool writing_ = false;  // waiting for the socket, or it is broken
  bool goodbye_ = false;
  int write_error_ = 0;
};

}  // namespace

struct TcpTransport::Common {
  actor::ThreadLoop& loop;
  const LocalNode& node;
  LinkOptions options;
  std::shared_ptr<wire::BufferPool> pool = std::make_shared<wire::BufferPool>();
};

TcpTransport::TcpTransport(actor::ThreadLoop& loop, const LocalNode& node, LinkOptions options)
    : common_(new Common{loop, node, options}), door_(loop, node, options) {}

std::unique_ptr<Link> TcpTransport::make_link(SocketDoor::Entered entered) const {
  return std::make_unique<LinkHandle>(std::make_shared<TcpLink>(common_->loop, common_->node, peer_of(entered.peer),
                                                                joint_options(common_->options, entered.peer),
                                                                std::move(entered.socket), common_->pool));
}

Result<std::string> TcpTransport::listen(const std::string& address,
                                         std::function<void(std::unique_ptr<Link>)> accepted) {
  return door_.listen(address, [this, accepted = std::move(accepted)](SocketDoor::Entered entered) {
    if (entered.peer.transport.empty()) accepted(make_link(std::move(entered)));
  });
}

void TcpTransport::connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) {
  door_.connect(address, [this, address, connected = std::move(connected)](Result<SocketDoor::Entered> entered) {
    if (!entered.ok()) return connected(std::move(entered).error());
    if (!entered->peer.transport.empty()) return connected(failed("{}: does not speak tcp, but ucx", address));
    connected(make_link(std::move(entered).value()));
  });
}

}  // namespace troupe::net
