#include "runtime/base/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/base/check.h"

extern char** environ;

namespace troupe {
namespace {

// Looked up before the fork: what follows it must not allocate.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::string_view rest = path ? path : "/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t end = rest.find(':');
    const std::string candidate = fmt::format("{}/{}", rest.substr(0, end), name);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return "";
}

// REQUIRES: it has ended, or will.
ProcessEnd reap(pid_t pid) {
  int status = 0;
  pid_t reaped;
  do reaped = waitpid(pid, &status, 0);
  while (reaped < 0 && errno == EINTR);
  if (reaped < 0) return {-1, 0};
  return WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
}

// False where the other end is closed first.
bool read_whole(int descriptor, int* number) {
  ssize_t got;
  do got = read(descriptor, number, sizeof *number);
  while (got < 0 && errno == EINTR);
  return got == sizeof *number;
}

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

bool readable(int descriptor, int timeout_ms) {
  pollfd wanted{descriptor, POLLIN, 0};
  int ready;
  do ready = ::poll(&wanted, 1, timeout_ms);
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> joined_environment(const std::vector<std::pair<std::string, std::string>>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view variable(*entry);
    const auto same = [&](const auto& pair) { return variable.starts_with(pair.first + "="); };
    if (std::none_of(added.begin(), added.end(), same)) all.emplace_back(variable);
  }
  for (const auto& [name, value] : added) all.push_back(name + "=" + value);
  return all;
}

}  // namespace

std::string ProcessEnd::describe() const {
  if (signal == 0 && exit_code < 0) return "ended, nobody knows how";
  if (signal == 0) return fmt::format("exited with code {}", exit_code);
  const char* name = sigabbrev_np(signal);
  return fmt::format("was killed by SIG{}", name ? name : std::to_string(signal));
}

Result<ChildProcess> ChildProcess::start(const ProcessOptions& options) {
  TROUPE_CHECK(!options.arguments.empty(), "a process without a program");
  const std::string program = find_program(options.arguments.front());
  if (program.empty() || access(program.c_str(), X_OK) != 0)
    return environment_error("{}: no such program", options.arguments.front());
  std::vector<std::string> arguments = options.arguments, environment = joined_environment(options.environment);
  const std::vector<char*> argv = pointers_to(arguments), envp = pointers_to(environment);
  int output = -1;
  if (!options.output.empty()) {
    output = open(options.output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (output < 0) return failed("{}: cannot be written: {}", options.output, std::strerror(errno));
  }
  // A parent that ignores SIGCHLD hands that on; then the end of no child can be learned.
  struct sigaction action{};
  if (sigaction(SIGCHLD, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) ::signal(SIGCHLD, SIG_DFL);
  int started[2];  // what went wrong before the program ran; closed by its start
  if (pipe2(started, O_CLOEXEC) != 0) {
    const int error = errno;
    if (output >= 0) close(output);
    return failed("{}: cannot be started: {}", program, std::strerror(error));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {  // only calls that are safe after a fork of a process with threads
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int s : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE}) ::signal(s, SIG_DFL);
    if (options.own_session) setsid();
    if (options.death_signal != 0) {
      prctl(PR_SET_PDEATHSIG, options.death_signal);
      if (getppid() != parent) _exit(127);  // it died before we asked
    }
    if (output >= 0) {
      const int nothing = open("/dev/null", O_RDONLY);
      dup2(nothing, STDIN_FILENO);
      dup2(output, STDOUT_FILENO);
      dup2(output, STDERR_FILENO);
    }
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);  // libraries open sockets that would live on in it
    execve(program.c_str(), argv.data(), envp.data());
    const int why = errno;
    (void)!write(started[1], &why, sizeof why);
    _exit(127);
  }
  int error = errno;
  if (output >= 0) close(output);
  close(started[1]);
  const int descriptor = pid < 0 ? -1 : open_pidfd(pid);
  if (pid >= 0 && descriptor < 0) error = errno;
  const bool ran = descriptor >= 0 && !read_whole(started[0], &error);
  close(started[0]);
  if (!ran) {
    if (descriptor >= 0) close(descriptor);
    if (pid >= 0) {
      ::kill(pid, SIGKILL);
      (void)reap(pid);
    }
    return failed("{}: cannot be started: {}", program, std::strerror(error));
  }
  return ChildProcess(pid, descriptor, options.own_session);
}

ChildProcess::~ChildProcess() {
  if (descriptor_ < 0) return;
  if (!poll()) {
    send(SIGKILL);
    (void)wait(10'000);
  }
  close(descriptor_);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(other.pid_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      own_session_(other.own_session_),
      end_(std::move(other.end_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(own_session_, other.own_session_);
  std::swap(end_, other.end_);
  return *this;
}

std::optional<ProcessEnd> ChildProcess::poll() { return wait(0); }

std::optional<ProcessEnd> ChildProcess::wait(int timeout_ms) {
  if (end_ || !readable(descriptor_, timeout_ms)) return end_;
  return end_ = reap(pid_);
}

void ChildProcess::send(int signal) const {
  if (end_) return;
  if (own_session_ && ::kill(-pid_, signal) == 0) return;
  ::kill(pid_, signal);
}

std::optional<ProcessHandle> ProcessHandle::open(pid_t pid) {
  const int descriptor = open_pidfd(pid);
  if (descriptor >= 0) return ProcessHandle(descriptor);
  TROUPE_CHECK(errno == ESRCH, "pidfd_open: {}", std::strerror(errno));
  return std::nullopt;
}

ProcessHandle::~ProcessHandle() {
  if (descriptor_ >= 0) close(descriptor_);
}

ProcessHandle::ProcessHandle(ProcessHandle&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

ProcessHandle& ProcessHandle::operator=(ProcessHandle&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void ProcessHandle::send(int signal) const { syscall(SYS_pidfd_send_signal, descriptor_, signal, nullptr, 0); }

bool ProcessHandle::ended(int timeout_ms) const { return readable(descriptor_, timeout_ms); }

}  // namespace troupe
