// Runs a program as a user would: arguments, a working folder, stdin, stdout, stderr, signals, an exit code.
// No wait lasts longer than its limit: what still runs then is killed, and the outcome says so.
#pragma once
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe::e2e {

struct RunOptions {
  std::string program;                            // its path; "": troupe, of this build
  std::string folder = ".";                       // the working directory
  std::string input;                              // stdin, then its end; at most what a pipe holds (64 KiB)
  std::optional<size_t> largest_file_bytes = {};  // RLIMIT_FSIZE
  double limit_seconds = 60;
};

struct Outcome {
  int exit_code = -1;  // -1: a signal ended it
  int signal = 0;      // that signal; 0: it exited
  bool timed_out = false;
  std::string out, err;
};

// A program that is running. Killed, if need be, and awaited when it goes. Not thread-safe.
class RunningProgram {
 public:
  RunningProgram(const std::vector<std::string>& arguments, RunOptions options = {});
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  // Takes output until `done` holds: true; or until the program ends or its time (or `seconds`) is over: false. `done`
  // is asked after each output, and every few milliseconds, so that it may look at files, too.
  bool wait_until(const std::function<bool()>& done, std::optional<double> seconds = {});
  // Until stdout or stderr holds `text`.
  bool wait_for_output(const std::string& text);
  // Returns once the signal is delivered (or the program has ended), so that a second one is a second one.
  void send(int signal);
  // Until it ends.
  Outcome wait();
  pid_t pid() const { return process_; }
  // Whether it has a handler for the signal.
  bool catches(int signal) const;
  // What it has computed so far, all threads together.
  double cpu_seconds() const;

  const std::string& out() const { return outcome_.out; }
  const std::string& err() const { return outcome_.err; }

 private:
  bool pump(int timeout_ms);  // false once both pipes are at their end
  double seconds_left() const;

  double deadline_;
  pid_t process_ = -1;
  int out_pipe_ = -1, err_pipe_ = -1;
  Outcome outcome_;
};

// Starts it and waits for its end.
Outcome run(const std::vector<std::string>& arguments, RunOptions options = {});

}  // namespace troupe::e2e
