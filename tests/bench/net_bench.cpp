// Links between two processes of this machine beside bare sockets: the round trip of a message of 64 bytes, and
// buffers of 64 MiB one way. Prints one JSON object a line. Compare `ucx` with
//   ucx_perftest -t ucp_am_lat -s 152 …   and   ucx_perftest -t ucp_am_bw -s 67108864 …
// under the same UCX_TLS. Figures mean something only on an idle machine.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"

namespace troupe::net {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRoundTrips = 5'000;
constexpr int kWarmUp = 500;
constexpr size_t kBulkBytes = size_t{64} << 20;
constexpr int kBulks = 24;
constexpr size_t kMessageBytes = 64;

double microseconds(Clock::duration duration) { return std::chrono::duration<double, std::micro>(duration).count(); }

void report(const std::string& what, std::vector<double>& trips_us, double bulk_gb_per_second) {
  std::ranges::sort(trips_us);
  fmt::print(
      "{{\"link\":\"{}\",\"round_trip_us\":{:.2f},\"round_trip_p99_us\":{:.2f},\"bulk_gb_per_second\":{:.3f}}}\n", what,
      trips_us[trips_us.size() / 2], trips_us[trips_us.size() * 99 / 100], bulk_gb_per_second);
  std::fflush(stdout);
}

std::unique_ptr<Transport> make(const std::string& backend, actor::ThreadLoop& loop, const LocalNode& node) {
  LinkOptions options;
  options.window_bytes = 4 * static_cast<int64_t>(kBulkBytes);
  options.silence_limit = std::chrono::seconds(30);
  if (backend == "tcp") return std::make_unique<TcpTransport>(loop, node, options);
  auto transport = make_ucx_transport(loop, node, options);
  TROUPE_CHECK(transport.ok(), "{}", transport.error().message());
  return std::move(transport).value();
}

Parcel small() {
  Parcel parcel;
  parcel.body.words.resize(kMessageBytes);
  return parcel;
}

// Answers messages; counts buffers, and answers the last.
void answer(const std::string& backend, std::chrono::nanoseconds spin, const std::string& address) {
  const LocalNode node(LocalNode::here("answers", 1).value(), "bench", "token");
  actor::ThreadLoop loop({.spin = spin});
  auto transport = make(backend, loop, node);
  std::unique_ptr<Link> link;
  int bulks = 0;
  transport->connect(address, [&](Result<std::unique_ptr<Link>> connected) {
    TROUPE_CHECK(connected.ok(), "{}", connected.error().message());
    link = std::move(connected).value();
    link->start({[&](Parcel parcel) {
                   link->release(1);
                   if (!parcel.body.buffers.empty() && ++bulks % kBulks != 0) return;
                   Parcel reply = small();
                   link->send(reply);
                 },
                 {},
                 [&](const Error&) { loop.stop(); }});
  });
  loop.run();
}

void measure(const std::string& backend, std::chrono::nanoseconds spin) {
  int pipe[2];
  TROUPE_CHECK(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  TROUPE_CHECK(child >= 0);
  if (child == 0) {
    char address[128] = {};
    TROUPE_CHECK(::read(pipe[0], address, sizeof(address) - 1) > 0);
    answer(backend, spin, address);
    ::_exit(0);
  }
  {
    const LocalNode node(LocalNode::here("asks", 1).value(), "bench", "token");
    actor::ThreadLoop loop({.spin = spin});
    auto transport = make(backend, loop, node);
    std::unique_ptr<Link> link;
    std::vector<double> trips;
    Clock::time_point begin;
    std::span<std::byte> bytes;
    const wire::Buffer bulk = wire::Buffer::allocate(kBulkBytes, &bytes);
    std::memset(bytes.data(), 1, bytes.size());
    int waiting = 0;
    int rounds = 0;
    double best = 0;
    const auto ask = [&] {
      begin = Clock::now();
      Parcel parcel = small();
      link->send(parcel);
    };
    const auto pour = [&] {
      while (waiting > 0) {
        Parcel parcel = small();
        parcel.body.buffers.push_back(bulk);
        if (!link->send(parcel)) return;
        --waiting;
      }
    };
    const auto start_bulk = [&] {
      waiting = kBulks;
      begin = Clock::now();
      pour();
    };
    const auto address = transport->listen("", [&](std::unique_ptr<Link> accepted) {
      link = std::move(accepted);
      link->start({[&](const Parcel&) {
                     link->release(1);
                     const auto took = Clock::now() - begin;
                     if (trips.size() < kRoundTrips + kWarmUp) {
                       trips.push_back(microseconds(took));
                       return trips.size() < kRoundTrips + kWarmUp ? ask() : start_bulk();
                     }
                     best = std::max(best, static_cast<double>(kBulkBytes) * kBulks / microseconds(took) / 1e3);
                     if (++rounds < 3) return start_bulk();
                     loop.stop();
                   },
                   pour, [&](const Error& error) { fmt::print(stderr, "{}\n", error.message()); }});
      ask();
    });
    TROUPE_CHECK(address.ok(), "{}", address.error().message());
    TROUPE_CHECK(::write(pipe[1], address->c_str(), address->size()) > 0);
    loop.run();
    trips.erase(trips.begin(), trips.begin() + kWarmUp);
    report(fmt::format("{}{}", backend, spin.count() > 0 ? ", spinning" : ""), trips, best);
  }
  ::waitpid(child, nullptr, 0);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

void transfer(int socket, std::vector<char>& buffer, size_t size, bool sends) {
  size_t done = 0;
  while (done < size) {
    const ssize_t moved = sends ? ::send(socket, buffer.data() + done, size - done, MSG_NOSIGNAL)
                                : ::recv(socket, buffer.data() + done, size - done, 0);
    TROUPE_CHECK(moved > 0);
    done += static_cast<size_t>(moved);
  }
}

// Blocking sockets, no protocol at all; the bytes of a frame.
void measure_sockets() {
  const size_t frame = kMessageBytes + 88;
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  TROUPE_CHECK(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0 && ::listen(listener, 1) == 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  const int one = 1;
  std::vector<char> buffer(kBulkBytes);
  const pid_t child = ::fork();
  if (child == 0) {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    TROUPE_CHECK(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (int i = 0; i < kRoundTrips + kWarmUp; ++i) {
      transfer(socket, buffer, frame, false);
      transfer(socket, buffer, frame, true);
    }
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < kBulks; ++i) transfer(socket, buffer, kBulkBytes, false);
      transfer(socket, buffer, 1, true);
    }
    ::_exit(0);
  }
  const int socket = ::accept(listener, nullptr, nullptr);
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  std::vector<double> trips;
  for (int i = 0; i < kRoundTrips + kWarmUp; ++i) {
    const auto begin = Clock::now();
    transfer(socket, buffer, frame, true);
    transfer(socket, buffer, frame, false);
    if (i >= kWarmUp) trips.push_back(microseconds(Clock::now() - begin));
  }
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const auto begin = Clock::now();
    for (int i = 0; i < kBulks; ++i) transfer(socket, buffer, kBulkBytes, true);
    transfer(socket, buffer, 1, false);
    best = std::max(best, static_cast<double>(kBulkBytes) * kBulks / microseconds(Clock::now() - begin) / 1e3);
  }
  report("bare sockets", trips, best);
  ::waitpid(child, nullptr, 0);
  ::close(socket);
  ::close(listener);
}

}  // namespace
}  // namespace troupe::net

int main() {
  using troupe::net::measure;
  troupe::net::measure_sockets();
  for (const std::chrono::microseconds spin : {std::chrono::microseconds(0), std::chrono::microseconds(200)}) {
    measure("tcp", spin);
    if (troupe::net::has_ucx()) measure("ucx", spin);
  }
}
