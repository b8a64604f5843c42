// What links between processes are compared with: blocking sockets, and ucx_perftest.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "launcher/commands/link_peer.h"
#include "launcher/commands/measure_links.h"
#include "runtime/base/check.h"
#include "runtime/wire/buffer.h"
#include "runtime/wire/frame.h"

namespace troupe::launcher {
namespace {

using Clock = std::chrono::steady_clock;

// A question or an answer: as long as a frame that carries one number.
constexpr size_t kSmallBytes = wire::kFrameHeadBytes + 8;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Error system_error(std::string_view what) { return failed("bare sockets: {}: {}", what, std::strerror(errno)); }

// A descriptor. No transfer waits longer than its patience.
class Socket {
 public:
  explicit Socket(int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  // "127.0.0.1:port", where it listens from now on.
  Result<std::string> listen() {
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof(address);
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(fd_, 1) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      return system_error("listen");
    }
    return fmt::format("127.0.0.1:{}", ntohs(address.sin_port));
  }
  Result<Socket> accept() {
    pollfd wanted{fd_, POLLIN, 0};
    const auto patience = std::chrono::milliseconds(kLinkPatience);
    if (::poll(&wanted, 1, static_cast<int>(patience.count())) <= 0)
      return failed("bare sockets: the second process did not come within {} s", kLinkPatience.count());
    Socket accepted(::accept(fd_, nullptr, nullptr));
    if (accepted.fd_ < 0) return system_error("accept");
    accepted.set_up(kLinkPatience);
    return accepted;
  }
  Status connect(const std::string& address) {
    const sockaddr_in to = loopback(std::atoi(address.c_str() + address.rfind(':') + 1));
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) return system_error("connect");
    set_up(kLinkPeerLife);  // until it is asked something
    return {};
  }
  Status send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return system_error("send");
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
    return {};
  }
  // False at the end of the stream.
  Result<bool> receive(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t received = ::recv(fd_, bytes.data(), bytes.size(), 0);
      if (received == 0) return false;
      if (received < 0) return system_error("receive");
      bytes = bytes.subspan(static_cast<size_t>(received));
    }
    return true;
  }

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  void set_up(std::chrono::seconds patience) {
    const int one = 1;
    const timeval limit{.tv_sec = patience.count(), .tv_usec = 0};
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (const int what : {SO_SNDTIMEO, SO_RCVTIMEO}) ::setsockopt(fd_, SOL_SOCKET, what, &limit, sizeof(limit));
  }
  int fd_;
};

using Small = std::array<std::byte, kSmallBytes>;

// A small message whose first eight bytes say how many follow it.
Small announce(uint64_t size) {
  Small small{};
  std::memcpy(small.data(), &size, sizeof(size));
  return small;
}

class Sockets final : public BareSockets {
 public:
  Sockets(ChildProcess process, Socket socket) : process_(std::move(process)), socket_(std::move(socket)) {
    std::span<std::byte> bytes;
    buffer_ = wire::Buffer::allocate(kBulkBytes, &bytes);
    std::memset(bytes.data(), 1, bytes.size());
  }
  ~Sockets() override {
    socket_ = Socket(-1);
    (void)process_.wait(2'000);
  }

  Result<double> round_trip(int64_t count) override {
    std::vector<double> seconds;
    for (int64_t i = 0; i < count; ++i) {
      const auto start = Clock::now();
      TROUPE_TRY(socket_.send(announce(0)));
      TROUPE_TRY(receive_answer());
      seconds.push_back(seconds_since(start));
    }
    std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
    return seconds[seconds.size() / 2];
  }
  Result<double> bulk(int64_t buffers) override {
    const auto start = Clock::now();
    for (int64_t i = 0; i < buffers; ++i) {
      TROUPE_TRY(socket_.send(announce(kBulkBytes)));
      TROUPE_TRY(socket_.send(buffer_.bytes()));
    }
    for (int64_t i = 0; i < buffers; ++i) TROUPE_TRY(receive_answer());
    return static_cast<double>(kBulkBytes) * static_cast<double>(buffers) / seconds_since(start);
  }

 private:
  Status receive_answer() {
    Small answer;
    if (!TROUPE_TRY(socket_.receive(answer))) return failed("bare sockets: the second process has gone");
    return {};
  }
  ChildProcess process_;
  Socket socket_;
  wire::Buffer buffer_;
};

// A port that nobody listens on, most likely also in a moment.
Result<std::string> free_port() {
  Socket socket;
  const std::string address = TROUPE_TRY(socket.listen());
  return address.substr(address.rfind(':') + 1);
}

// Runs one end of ucx_perftest; what it prints goes to the file.
Result<ChildProcess> start_perftest(const std::string& port, const std::string& output,
                                    const std::vector<std::string>& arguments) {
  ProcessOptions options;
  options.arguments = {"ucx_perftest", "-p", port};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  // As our own transport has it (ucx_worker.cpp).
  options.environment = {{"UCX_TLS", "^sysv"}, {"UCX_MM_ERROR_HANDLING", "y"}, {"UCX_WARN_UNUSED_ENV_VARS", "n"}};
  options.output = output;
  options.death_signal = SIGKILL;
  return ChildProcess::start(options);
}

// A file without a name, which goes with us.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("perftest", MFD_CLOEXEC)) { TROUPE_CHECK(fd_ >= 0, "memfd_create"); }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }
  std::string text() const {
    std::string text(64 * 1024, '\0');
    const ssize_t size = ::pread(fd_, text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return text;
  }

 private:
  int fd_;
};

}  // namespace

Result<std::unique_ptr<BareSockets>> BareSockets::start(const std::vector<std::string>& peer) {
  Socket listener;
  const LinkPeerTask task{.setting = {"sockets"}, .address = TROUPE_TRY(listener.listen()), .token = "none"};
  auto process = TROUPE_TRY(task.start(peer));
  auto socket = TROUPE_TRY(listener.accept());
  return std::unique_ptr<BareSockets>(std::make_unique<Sockets>(std::move(process), std::move(socket)));
}

Status serve_bare_sockets(const LinkPeerTask& task) {
  Socket socket;
  TROUPE_TRY(socket.connect(task.address));
  std::span<std::byte> bytes;
  const wire::Buffer buffer = wire::Buffer::allocate(kBulkBytes, &bytes);
  Small question;
  while (TROUPE_TRY(socket.receive(question))) {
    uint64_t size = 0;
    std::memcpy(&size, question.data(), sizeof(size));
    TROUPE_CHECK(size <= bytes.size(), "{} bytes were announced", size);
    TROUPE_TRY(socket.receive(bytes.first(size)));
    TROUPE_TRY(socket.send(announce(0)));
  }
  return {};
}

Result<double> ucx_perftest_bulk(int64_t buffers) {
  const std::string port = TROUPE_TRY(free_port());
  const MemoryFile server_says, client_says;
  auto server = TROUPE_TRY(start_perftest(port, server_says.path(), {}));
  const std::vector<std::string> test = {
      "127.0.0.1", "-t", "ucp_am_bw", "-s", std::to_string(kBulkBytes), "-n", std::to_string(buffers),
      "-w",        "2",  "-f",        "-v"};
  const auto deadline = Clock::now() + kLinkPatience;
  while (true) {
    auto client = TROUPE_TRY(start_perftest(port, client_says.path(), test));
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    const auto end = client.wait(static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (end && end->exit_code == 0 && end->signal == 0) break;
    if (!end || server.poll() || Clock::now() > deadline)
      return failed("ucx_perftest {}: {}", end ? end->describe() : "does not end", client_says.text());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // its server does not listen yet
  }
  // CSV: iterations, three latencies, average and overall MiB/s, …
  const std::string text = client_says.text();
  std::string_view last(text);
  while (last.ends_with('\n')) last.remove_suffix(1);
  last.remove_prefix(last.rfind('\n') + 1);
  for (int column = 0; column < 5; ++column) last.remove_prefix(std::min(last.find(',') + 1, last.size()));
  const double mebibytes = std::strtod(std::string(last).c_str(), nullptr);
  if (mebibytes <= 0) return failed("ucx_perftest says no bandwidth: {}", text);
  return mebibytes * (1 << 20);
}

}  // namespace troupe::launcher
