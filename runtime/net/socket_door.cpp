#include "runtime/net/socket_door.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <map>
#include <set>

#include "runtime/base/check.h"

namespace troupe::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// Callers that have not proved themselves; for one more, the oldest is hung up on, and may call again.
constexpr size_t kMostEntering = 256;
// How long a caller that was hung up on waits before it calls again.
constexpr std::chrono::milliseconds kCallAgain{50};

struct HostPort {
  std::string host;
  std::string port;
};

// "host:port", "[v6]:port".
Result<HostPort> split(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort parts;
  if (colon == std::string::npos) return usage_error("{}: not an address; write host:port", address);
  parts.host = address.substr(0, colon);
  parts.port = address.substr(colon + 1);
  if (parts.host.size() >= 2 && parts.host.front() == '[' && parts.host.back() == ']') {
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  }
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(parts.port.data(), parts.port.data() + parts.port.size(), number);
  if (error != std::errc() || end != parts.port.data() + parts.port.size()) {
    return usage_error("{}: not an address; write host:port", address);
  }
  return parts;
}

std::string describe(const tcp::endpoint& endpoint) {
  const bool v6 = endpoint.address().is_v6();
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", endpoint.address().to_string(), v6 ? "]" : "", endpoint.port());
}

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

struct SocketDoor::Room {
  actor::ThreadLoop& loop;
  const LocalNode& node;
  LinkOptions options;
  Describe describe;
  bool closed = false;
  std::vector<std::shared_ptr<Accepting>> accepting;
  std::map<uint64_t, std::shared_ptr<Entering>> callers;  // the oldest first
  uint64_t next_caller = 0;
  std::set<std::shared_ptr<Dialing>> dialing;
  std::function<void(const Error&)> refused;

  // What one side of a connection begins with. Errors: there are no random numbers; too much is to be said.
  struct Opening {
    wire::Identity self;
    wire::Nonce nonce;
  };
  Result<Opening> opening() const {
    Opening opening{node.identity(options), TROUPE_TRY(wire::random_nonce())};
    if (describe) opening.self.transport = describe();
    TROUPE_TRY(wire::check_length(opening.self));
    return opening;
  }
};

// One connection on its way through the handshake.
class SocketDoor::Entering : public std::enable_shared_from_this<Entering> {
 public:
  using Done = std::function<void(Result<Entered>)>;

  Entering(std::shared_ptr<Room> room, tcp::socket socket, wire::Handshake::Role role, Room::Opening opening,
           std::string where, Done done)
      : room_(std::move(room)),
        number_(room_->next_caller++),
        socket_(std::move(socket)),
        role_(role),
        handshake_(role, std::move(opening.self), room_->node.token(), opening.nonce),
        where_(std::move(where)),
        done_(std::move(done)) {}

  void start() {
    room_->callers[number_] = shared_from_this();
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    timer_ = room_->loop.after(room_->options.handshake_deadline, [this] {
      end(failed("no handshake within {:.1f} s", seconds(room_->options.handshake_deadline)));
    });
    go_on();
  }
  void drop() {
    done_ = nullptr;
    timer_.cancel();
    error_code ignored;
    socket_.close(ignored);
  }
  void turn_away() { end(failed("too many callers")); }
  bool dials() const { return role_ == wire::Handshake::Role::dialer; }
  // The other side ended it without a word.
  bool hung_up() const { return hung_up_; }

 private:
  // Writes what is due, then reads what is due.
  void go_on() {
    output_ = handshake_.take_output();
    if (output_.empty()) return read();
    asio::async_write(socket_, asio::buffer(output_), [self = shared_from_this()](const error_code& error, size_t) {
      if (!self->done_) return;
      if (error) return self->end(self->broken(error));
      self->read();
    });
  }
  void read() {
    if (outcome_) return end(*outcome_);
    if (handshake_.done()) return enter();
    input_.resize(handshake_.wants());
    asio::async_read(socket_, asio::buffer(input_), [self = shared_from_this()](const error_code& error, size_t) {
      if (!self->done_) return;
      if (error) return self->end(self->broken(error));
      // After a refusal, what it says is still written.
      if (Status status = self->handshake_.receive(self->input_); !status.ok()) {
        self->outcome_ = std::move(status).error();
      }
      self->go_on();
    });
  }
  Error broken(const error_code& error) {
    if (error == asio::error::eof || error == asio::error::connection_reset || error == asio::error::broken_pipe) {
      hung_up_ = true;
      return failed("the other side hung up during the handshake");
    }
    return failed("{}", error.message());
  }
  void enter() {
    const bool dialer = dials();
    error_code ignored;
    socket_.non_blocking(true, ignored);
    Entered entered{std::move(socket_), handshake_.peer(), handshake_.derive(dialer ? "to listener" : "to dialer"),
                    handshake_.derive(dialer ? "to dialer" : "to listener")};
    finish(std::move(entered));
  }
  void end(Error error) {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
    finish(std::move(error).within(where_));
  }
  void finish(Result<Entered> result) {
    const auto self = shared_from_this();
    room_->callers.erase(number_);
    timer_.cancel();
    if (const auto done = std::exchange(done_, nullptr)) done(std::move(result));
  }

  const std::shared_ptr<Room> room_;
  const uint64_t number_;
  tcp::socket socket_;
  const wire::Handshake::Role role_;
  wire::Handshake handshake_;
  const std::string where_;
  Done done_;
  std::vector<std::byte> output_;
  std::vector<std::byte> input_;
  std::optional<Error> outcome_;
  bool hung_up_ = false;
  actor::Timer timer_;
};

// Resolves a name and tries its addresses in turn. Calls again where it is hung up on, until its deadline.
class SocketDoor::Dialing : public std::enable_shared_from_this<Dialing> {
 public:
  Dialing(std::shared_ptr<Room> room, std::string address, std::function<void(Result<Entered>)> done)
      : room_(std::move(room)),
        resolver_(room_->loop.io()),
        socket_(room_->loop.io()),
        address_(std::move(address)),
        done_(std::move(done)) {}

  void start() {
    room_->dialing.insert(shared_from_this());
    end_ = room_->loop.clock().now() + room_->options.connect_deadline;
    call();
  }
  void drop() {
    done_ = nullptr;
    timer_.cancel();
    resolver_.cancel();
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  void call() {
    timer_ = room_->loop.after(end_ - room_->loop.clock().now(), [this] {
      finish(failed("no answer within {:.1f} s", seconds(room_->options.connect_deadline)));
    });
    auto parts = split(address_);
    if (!parts.ok()) {
      room_->loop.post([self = shared_from_this(), error = std::move(parts).error()] { self->fail(error); });
      return;
    }
    // Numbers need no resolver, which is a thread.
    error_code error;
    const auto number = asio::ip::make_address(parts->host, error);
    if (!error) {
      const auto port = static_cast<uint16_t>(std::stoi(parts->port));
      asio::async_connect(socket_, std::vector<tcp::endpoint>{{number, port}}, connected());
      return;
    }
    resolver_.async_resolve(
        parts->host, parts->port,
        [self = shared_from_this()](const error_code& why, const tcp::resolver::results_type& found) {
          if (!self->done_) return;
          if (why) return self->finish(failed("{}", why.message()));
          asio::async_connect(self->socket_, found, self->connected());
        });
  }
  std::function<void(const error_code&, const tcp::endpoint&)> connected() {
    return [self = shared_from_this()](const error_code& error, const tcp::endpoint&) {
      if (!self->done_) return;
      if (error)
        return self->finish(
            failed("{}", error == asio::error::connection_refused ? "connection refused" : error.message()));
      self->shake_hands();
    };
  }
  void shake_hands() {
    auto opening = room_->opening();
    if (!opening.ok()) return finish(std::move(opening).error());
    timer_.cancel();  // the handshake has a deadline of its own
    const auto shaken = [self = shared_from_this()](Result<Entered> entered) {
      if (self->done_) self->shaken(std::move(entered));
    };
    entering_ = std::make_shared<Entering>(room_, std::move(socket_), wire::Handshake::Role::dialer,
                                           std::move(*opening), address_, shaken);
    entering_->start();
  }
  void shaken(Result<Entered> entered) {
    const bool again = entering_->hung_up() && room_->loop.clock().now() + kCallAgain < end_;
    entering_.reset();
    if (again) {
      socket_ = tcp::socket(room_->loop.io());
      timer_ = room_->loop.after(kCallAgain, [this] { call(); });
      return;
    }
    const auto done = std::exchange(done_, nullptr);
    forget();
    done(std::move(entered));
  }
  void finish(Error error) { fail(std::move(error).within(address_)); }
  void fail(Error error) {
    error_code ignored;
    socket_.close(ignored);
    const auto done = std::exchange(done_, nullptr);
    forget();
    if (done) done(std::move(error));
  }
  void forget() {
    timer_.cancel();
    room_->dialing.erase(shared_from_this());
  }

  const std::shared_ptr<Room> room_;
  tcp::resolver resolver_;
  tcp::socket socket_;
  const std::string address_;
  std::function<void(Result<Entered>)> done_;
  std::shared_ptr<Entering> entering_;
  std::chrono::nanoseconds end_{0};
  actor::Timer timer_;
};

// Accepts one caller after the other for as long as the room is open.
class SocketDoor::Accepting : public std::enable_shared_from_this<Accepting> {
 public:
  Accepting(std::shared_ptr<Room> room, std::function<void(Entered)> entered)
      : room_(std::move(room)), acceptor_(room_->loop.io()), entered_(std::move(entered)) {}

  // The address that it is bound to.
  Result<std::string> listen(const tcp::endpoint& endpoint) {
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return failed("{}", error == asio::error::address_in_use ? "address in use" : error.message());
    next();
    return describe(acceptor_.local_endpoint());
  }
  void drop() {
    pause_.cancel();
    error_code ignored;
    acceptor_.close(ignored);
  }

 private:
  void next() {
    acceptor_.async_accept([self = shared_from_this()](const error_code& why, tcp::socket socket) {
      if (self->room_->closed) return;
      if (!why) {
        self->let_in(std::move(socket));
        return self->next();
      }
      // Out of file descriptors, most likely: some will come back. Whoever hears of it may close the door.
      self->refuse(failed("cannot accept: {}", why.message()));
      if (!self->room_->closed) {
        self->pause_ = self->room_->loop.after(std::chrono::milliseconds(100), [raw = self.get()] { raw->next(); });
      }
    });
  }
  void refuse(const Error& why) const {
    if (room_->refused) room_->refused(why);
  }
  void let_in(tcp::socket socket) {
    error_code ignored;
    const tcp::endpoint from = socket.remote_endpoint(ignored);
    turn_one_away();
    auto opening = room_->opening();
    if (!opening.ok()) return refuse(std::move(opening).error().within(describe(from)));
    const auto done = [self = shared_from_this()](Result<Entered> result) {
      if (self->room_->closed) return;
      if (result.ok()) self->entered_(std::move(result).value());
      else self->refuse(result.error());
    };
    std::make_shared<Entering>(room_, std::move(socket), wire::Handshake::Role::listener, std::move(*opening),
                               describe(from), done)
        ->start();
  }
  // The oldest caller, where there are too many: whoever is silent is old.
  void turn_one_away() const {
    if (room_->callers.size() < kMostEntering) return;
    for (const auto& [number, caller] : room_->callers) {
      if (!caller->dials()) return std::shared_ptr(caller)->turn_away();
    }
  }

  const std::shared_ptr<Room> room_;
  tcp::acceptor acceptor_;
  const std::function<void(Entered)> entered_;
  actor::Timer pause_;
};

SocketDoor::SocketDoor(actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options, Describe describe)
    : room_(new Room{loop, node, options, std::move(describe), false, {}, {}, 0, {}, {}}) {
  check(options);
}

SocketDoor::~SocketDoor() {
  room_->closed = true;
  room_->refused = nullptr;
  for (const auto& accepting : std::exchange(room_->accepting, {})) accepting->drop();
  for (const auto& [number, caller] : std::exchange(room_->callers, {})) caller->drop();
  for (const auto& dialing : std::exchange(room_->dialing, {})) dialing->drop();
}

void SocketDoor::on_refused(std::function<void(const Error&)> refused) { room_->refused = std::move(refused); }

Result<std::string> SocketDoor::resolve(const std::string& address) {
  if (address.empty()) return address;
  const HostPort parts = TROUPE_TRY(split(address));
  asio::io_context here;
  tcp::resolver resolver(here);
  error_code error;
  const auto found = resolver.resolve(parts.host, parts.port, tcp::resolver::passive, error);
  if (error) return failed("{}: {}", address, error.message());
  return describe(found.begin()->endpoint());
}

Result<std::string> SocketDoor::listen(const std::string& address, std::function<void(Entered)> entered) {
  const HostPort parts = TROUPE_TRY(split(address.empty() ? "127.0.0.1:0" : address));
  error_code error;
  const auto number = asio::ip::make_address(parts.host, error);
  if (error) return usage_error("{}: listen on a number; a name is to be resolved first", address);
  const tcp::endpoint endpoint(number, static_cast<uint16_t>(std::stoi(parts.port)));
  const auto accepting = std::make_shared<Accepting>(room_, std::move(entered));
  auto bound = accepting->listen(endpoint);
  if (!bound.ok()) return std::move(bound).error().within(address);
  room_->accepting.push_back(accepting);
  return bound;
}

void SocketDoor::connect(const std::string& address, std::function<void(Result<Entered>)> entered) {
  std::make_shared<Dialing>(room_, address, std::move(entered))->start();
}

}  // namespace troupe::net
