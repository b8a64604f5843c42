#include "tests/e2e/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "runtime/base/check.h"

namespace troupe::e2e {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Pipe {
  Pipe() {
    int ends[2];
    TROUPE_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    read = ends[0];
    write = ends[1];
  }
  int read, write;
};

// Appends what is there; false at the end.
bool take(int pipe, std::string& into) {
  char buffer[65536];
  ssize_t got;
  do got = ::read(pipe, buffer, sizeof buffer);
  while (got < 0 && errno == EINTR);
  if (got > 0) into.append(buffer, static_cast<size_t>(got));
  return got > 0;
}

// Whether a set of signals in the process's status holds `signal`; no set of a zombie does.
bool is_in(pid_t process, const char* set, int signal) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("State:") && line.find('Z') != std::string::npos) return false;
    if (const std::string name = std::string(set) + ":"; line.starts_with(name))
      return std::stoull(line.substr(name.size()), nullptr, 16) >> (signal - 1) & 1;
  }
  return false;
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, RunOptions options)
    : deadline_(now() + options.limit_seconds) {
  const Pipe in, out, err;
  TROUPE_CHECK(options.input.size() <= 65536);
  TROUPE_CHECK(::write(in.write, options.input.data(), options.input.size()) ==
               static_cast<ssize_t>(options.input.size()));
  if (options.program.empty()) options.program = TROUPE_BINARY;
  std::vector<char*> words{options.program.data()};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  process_ = ::fork();
  TROUPE_CHECK(process_ >= 0);
  if (process_ == 0) {  // async-signal-safe calls only
    ::dup2(in.read, STDIN_FILENO);
    ::dup2(out.write, STDOUT_FILENO);
    ::dup2(err.write, STDERR_FILENO);
    if (options.largest_file_bytes) {
      const rlimit limit{*options.largest_file_bytes, *options.largest_file_bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (::chdir(options.folder.c_str()) == 0) ::execv(words[0], words.data());
    ::_exit(127);
  }
  for (const int end : {in.read, in.write, out.write, err.write}) ::close(end);
  out_pipe_ = out.read;
  err_pipe_ = err.read;
}

RunningProgram::~RunningProgram() {
  if (process_ >= 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  for (const int pipe : {out_pipe_, err_pipe_}) {
    if (pipe >= 0) ::close(pipe);
  }
}

double RunningProgram::seconds_left() const { return deadline_ - now(); }

bool RunningProgram::pump(int timeout_ms) {
  pollfd files[] = {{out_pipe_, POLLIN, 0}, {err_pipe_, POLLIN, 0}};  // poll passes over -1
  if (out_pipe_ < 0 && err_pipe_ < 0) return false;
  ::poll(files, 2, timeout_ms);
  const std::pair<int*, std::string*> pipes[] = {{&out_pipe_, &outcome_.out}, {&err_pipe_, &outcome_.err}};
  for (size_t i = 0; i < 2; ++i) {
    if (files[i].revents == 0 || take(*pipes[i].first, *pipes[i].second)) continue;
    ::close(std::exchange(*pipes[i].first, -1));
  }
  return true;
}

bool RunningProgram::wait_until(const std::function<bool()>& done, std::optional<double> seconds) {
  const double end = std::min(deadline_, seconds ? now() + *seconds : deadline_);
  while (!done()) {
    if (now() >= end || !pump(1)) return done();
  }
  return true;
}

bool RunningProgram::wait_for_output(const std::string& text) {
  return wait_until(
      [&] { return outcome_.out.find(text) != std::string::npos || outcome_.err.find(text) != std::string::npos; });
}

void RunningProgram::send(int signal) {
  ::kill(process_, signal);
  wait_until([&] { return !is_in(process_, "ShdPnd", signal); });
}

bool RunningProgram::catches(int signal) const { return is_in(process_, "SigCgt", signal); }

double RunningProgram::cpu_seconds() const {
  std::ifstream file("/proc/" + std::to_string(process_) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));  // from the third on
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Outcome RunningProgram::wait() {
  while (seconds_left() > 0 && pump(static_cast<int>(std::min(1000.0, 1000 * std::max(0.0, seconds_left()))))) {
  }
  if (out_pipe_ >= 0 || err_pipe_ >= 0) {
    outcome_.timed_out = true;
    ::kill(process_, SIGKILL);
  }
  int status = 0;
  ::waitpid(std::exchange(process_, -1), &status, 0);
  if (WIFEXITED(status)) outcome_.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome_.signal = WTERMSIG(status);
  return outcome_;
}

Outcome run(const std::vector<std::string>& arguments, RunOptions options) {
  return RunningProgram(arguments, std::move(options)).wait();
}

}  // namespace troupe::e2e
