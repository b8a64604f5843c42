// What the tests of several ranks share: runs as threads or processes, and eyes for the processes themselves.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "runtime/base/process.h"
#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {

struct Process {
  pid_t pid = 0, parent = 0;
  std::string command;                     // words parted by zero bytes
  bool is(const std::string& word) const;  // its last word
};
// All processes below `root`, parents first.
std::vector<Process> family_of(pid_t root);
// "/proc/PID/FILE"; "" where the process is gone.
std::string proc_file(pid_t pid, const std::string& file);

// A gang as the operating system sees it; parts may not be there yet.
struct Gang {
  std::optional<pid_t> mpirun;
  std::vector<pid_t> keepers, ranks;  // in order of their ids
};
Gang gang_of(pid_t head);
// Whether the thread of that name waits for something.
bool thread_sleeps(pid_t pid, const std::string& name);
// Sends SIGSTOP, and waits until none of its threads runs any more.
void stop_process(pid_t pid);

class RankRuns : public EndToEnd {
 protected:
  // `troupe train small.toml --MODE RANKS`, where mode is --ranks or --processes.
  std::vector<std::string> arguments(const std::string& out, const std::string& mode, int ranks,
                                     const std::vector<std::string>& settings = {}, bool resume = false) const;
  void train_on(const std::string& out, const std::string& mode, int ranks,
                const std::vector<std::string>& settings = {}, bool resume = false) const;
  void expect_same_bits(const std::string& one, const std::string& other, int steps) const;
  // In f32 sums in another order differ in the seventh digit, and 20 steps amplify that a little.
  void expect_same_losses(const std::string& one, const std::string& other) const;
};

class ProcessRuns : public RankRuns {
 protected:
  void SetUp() override;
  // Waits until the run has taken so many steps; its ranks.
  std::vector<pid_t> ranks_after(RunningProgram& program, const std::string& out, size_t steps) const;
  // Whether the process ends within so long.
  static bool ends(pid_t pid, int timeout_ms);
  static bool alive(pid_t pid) { return !ends(pid, 0); }
};

}  // namespace troupe::e2e
