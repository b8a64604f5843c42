// A child process: started, watched through a descriptor that becomes readable when it ends, killed by its id.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace troupe {

struct ProcessOptions {
  std::vector<std::string> arguments;                                 // [0] is the program, looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment = {};  // added to ours
  std::string output = {};   // stdout and stderr are appended to this file; "": ours
  bool own_session = false;  // a terminal's Ctrl-C does not reach it
  int death_signal = 0;      // sent to it when the thread that started it ends; 0: none
};

// How a process ended.
struct ProcessEnd {
  int exit_code = 0;  // if signal is 0; -1: somebody else reaped it
  int signal = 0;
  std::string describe() const;  // "exited with code 3", "was killed by SIGKILL"
};

// Not thread-safe. Destroyed while the process runs: kills it (SIGKILL) and reaps it.
class ChildProcess {
 public:
  // Errors: environment (no such program; names it), failed.
  static Result<ChildProcess> start(const ProcessOptions& options);
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;

  pid_t pid() const { return pid_; }
  // Readable (poll) once the process has ended. Owned by this object.
  int descriptor() const { return descriptor_; }
  // Whether it has ended; reaps it then. Does not block.
  std::optional<ProcessEnd> poll();
  // Waits at most so long.
  std::optional<ProcessEnd> wait(int timeout_ms);
  // To the process, or to its whole session if it has its own. No error if it has ended.
  void send(int signal) const;

 private:
  ChildProcess(pid_t pid, int descriptor, bool own_session)
      : pid_(pid), descriptor_(descriptor), own_session_(own_session) {}
  pid_t pid_;
  int descriptor_;
  bool own_session_;
  std::optional<ProcessEnd> end_;
};

// A process that need not be our child, held by a descriptor: its number cannot come to mean another one.
class ProcessHandle {
 public:
  // None: it has gone already.
  static std::optional<ProcessHandle> open(pid_t pid);
  ~ProcessHandle();
  ProcessHandle(ProcessHandle&& other) noexcept;
  ProcessHandle& operator=(ProcessHandle&& other) noexcept;

  // No error if it has ended.
  void send(int signal) const;
  // Whether it has ended, within so long; its parent may not have reaped it yet.
  bool ended(int timeout_ms = 0) const;
  // Readable (poll) once it has.
  int descriptor() const { return descriptor_; }

 private:
  explicit ProcessHandle(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace troupe
