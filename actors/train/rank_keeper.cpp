#include "actors/train/rank_keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/thread_name.h"

namespace troupe::train {
namespace {

constexpr size_t kMostWords = 500;  // bytes of a last line

// What travels; the words follow.
struct Report {
  int32_t rank, pid, exit_code, signal;
  int64_t at_ns;
};

// An abstract address: the name begins with a zero byte and is in no folder.
struct Address {
  explicit Address(const std::string& name) {
    socket.sun_family = AF_UNIX;
    const size_t length = std::min(name.size(), sizeof socket.sun_path - 1);
    std::memcpy(socket.sun_path + 1, name.data(), length);
    bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&socket); }
  sockaddr_un socket = {};
  socklen_t bytes;
};

int open_socket() { return ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The rank's stderr: passed on as it comes, its last line kept.
class Stderr {
 public:
  explicit Stderr(int pipe) : pipe_(pipe) { fcntl(pipe_, F_SETFL, O_NONBLOCK); }

  // Passes on what is there. False at the end.
  bool pump() {
    char buffer[4096];
    while (true) {
      const ssize_t got = ::read(pipe_, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return got < 0 && errno == EAGAIN;
      write_all(buffer, static_cast<size_t>(got));
      for (const char c : std::string_view(buffer, static_cast<size_t>(got))) {
        if (c != '\n') {
          if (line_.size() < kMostWords) line_ += c;
        } else if (!line_.empty()) {
          last_ = std::exchange(line_, {});
        }
      }
    }
  }
  const std::string& last_line() const { return line_.empty() ? last_ : line_; }

 private:
  static void write_all(const char* data, size_t bytes) {
    while (bytes > 0) {
      const ssize_t put = ::write(STDERR_FILENO, data, bytes);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return;  // nobody reads it: the last line is still kept
      data += put;
      bytes -= static_cast<size_t>(put);
    }
  }
  int pipe_;
  std::string line_, last_;
};

// Ends this process as the rank's has ended.
[[noreturn]] void end_as(const ProcessEnd& end) {
  if (end.signal != 0) {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);  // the rank has left its own
    ::signal(end.signal, SIG_DFL);
    ::kill(getpid(), end.signal);
  }
  _exit(end.signal != 0 ? 128 + end.signal : end.exit_code);
}

[[noreturn]] void keep(pid_t pid, int rank, int pipe, const std::string& address) {
  name_this_thread("keeper");
  // mpirun tells all to end when one has; it is for the agent to do, and reports come first.
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE}) ::signal(signal, SIG_IGN);
  const auto process = ProcessHandle::open(pid);  // our child, not reaped yet: it is there
  Stderr words(pipe);
  while (words.pump()) {
    pollfd wanted[] = {{pipe, POLLIN, 0}, {process->descriptor(), POLLIN, 0}};
    ::poll(wanted, 2, -1);
    if (wanted[1].revents != 0) break;
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const int64_t at = now_ns();
  words.pump();
  const ProcessEnd end = WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
  const Report report{rank, pid, end.exit_code, end.signal, at};
  std::string datagram(reinterpret_cast<const char*>(&report), sizeof report);
  datagram += words.last_line();
  const Address to(address);
  const int socket = open_socket();
  // An agent that is no more needs no report.
  (void)!::sendto(socket, datagram.data(), datagram.size(), MSG_NOSIGNAL, to.get(), to.bytes);
  end_as(end);
}

}  // namespace

Result<RankEnds> RankEnds::listen() {
  RankEnds ends(open_socket(), fmt::format("troupe-{}-{:x}", getpid(), now_ns()));
  const Address here(ends.address_);
  const int yes = 1;
  if (ends.socket_ < 0 || ::bind(ends.socket_, here.get(), here.bytes) != 0 ||
      ::setsockopt(ends.socket_, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0) {
    return failed("cannot listen for the ends of ranks: {}", std::strerror(errno));
  }
  return ends;
}

RankEnds::~RankEnds() {
  if (socket_ >= 0) ::close(socket_);
}

RankEnds::RankEnds(RankEnds&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), address_(std::move(other.address_)) {}

RankEnds& RankEnds::operator=(RankEnds&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(address_, other.address_);
  return *this;
}

std::optional<RankEnd> RankEnds::take() {
  while (true) {
    Report report{};
    char words[kMostWords];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
    iovec parts[] = {{&report, sizeof report}, {words, sizeof words}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket_, &message, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (got < static_cast<ssize_t>(sizeof report) || header == nullptr || header->cmsg_type != SCM_CREDENTIALS)
      continue;
    ucred sender{};
    std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
    if (sender.uid != geteuid()) continue;
    return RankEnd{report.rank, report.pid, ProcessEnd{report.exit_code, report.signal},
                   std::chrono::nanoseconds(report.at_ns),
                   std::string(words, static_cast<size_t>(got) - sizeof report)};
  }
}

Status keep_rank(int rank, const std::string& address) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed("worker: pipe: {}", std::strerror(errno));
  const pid_t keeper = getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return failed("worker: fork: {}", std::strerror(errno));
  if (pid > 0) {
    ::close(ends[1]);
    keep(pid, rank, ends[0], address);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(1);  // it died before we asked
  ::dup2(ends[1], STDERR_FILENO);
  ::close(ends[0]);
  ::close(ends[1]);
  return {};
}

}  // namespace troupe::train
