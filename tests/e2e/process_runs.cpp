#include "tests/e2e/process_runs.h"

#include <dirent.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace troupe::e2e {
std::string proc_file(pid_t pid, const std::string& file) {
  std::ifstream stream("/proc/" + std::to_string(pid) + "/" + file);
  // Read through the stream, which takes the end of the process for the end of the file; its buffer alone would throw.
  std::string text;
  std::getline(stream, text, char(-1));
  return text;
}

bool Process::is(const std::string& word) const {
  return command.size() > word.size() && std::string(command.c_str() + command.size() - word.size() - 1) == word;
}

std::vector<Process> family_of(pid_t root) {
  std::vector<Process> all;
  DIR* folder = opendir("/proc");
  while (const dirent* entry = readdir(folder)) {
    const pid_t pid = std::atoi(entry->d_name);
    const std::string stat = pid > 0 ? proc_file(pid, "stat") : "";
    const size_t name_end = stat.rfind(')');
    if (name_end != std::string::npos) all.push_back({pid, std::atoi(stat.c_str() + name_end + 4), ""});
  }
  closedir(folder);
  std::vector<Process> family{{root, 0, ""}};
  for (size_t i = 0; i < family.size(); ++i) {
    for (const Process& process : all) {
      if (process.parent == family[i].pid)
        family.push_back({process.pid, process.parent, proc_file(process.pid, "cmdline")});
    }
  }
  family.erase(family.begin());
  return family;
}

Gang gang_of(pid_t head) {
  Gang gang;
  const std::vector<Process> family = family_of(head);
  for (const Process& process : family) {
    if (process.command.starts_with("mpirun")) {
      if (process.parent == head) gang.mpirun = process.pid;
      continue;
    }
    if (!process.is("worker")) continue;
    const bool of_mpirun = gang.mpirun && process.parent == *gang.mpirun;
    (of_mpirun ? gang.keepers : gang.ranks).push_back(process.pid);
  }
  std::ranges::sort(gang.keepers);
  std::ranges::sort(gang.ranks);
  return gang;
}

bool thread_sleeps(pid_t pid, const std::string& name) {
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ignored)) {
    const std::string stat = proc_file(pid, "task/" + task.path().filename().string() + "/stat");
    if (stat.find("(" + name + ") S ") != std::string::npos) return true;
  }
  return false;
}

void stop_process(pid_t pid) {
  kill(pid, SIGSTOP);
  const auto all_stopped = [&] {
    std::error_code none;
    for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), none)) {
      const std::string stat = proc_file(pid, "task/" + thread.path().filename().string() + "/stat");
      const size_t name_end = stat.rfind(") ");
      if (name_end != std::string::npos && stat[name_end + 2] != 'T') return false;
    }
    return true;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!all_stopped() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void ProcessRuns::SetUp() {
#ifndef TROUPE_WITH_MPI
  GTEST_SKIP() << "built without MPI";
#endif
}

std::vector<std::string> RankRuns::arguments(const std::string& out, const std::string& mode, int ranks,
                                             const std::vector<std::string>& settings, bool resume) const {
  std::vector<std::string> all = train_arguments(out, settings, resume);
  all.insert(all.end(), {mode, std::to_string(ranks)});
  return all;
}

void RankRuns::train_on(const std::string& out, const std::string& mode, int ranks,
                        const std::vector<std::string>& settings, bool resume) const {
  const Outcome outcome = troupe(arguments(out, mode, ranks, settings, resume));
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
}

void RankRuns::expect_same_losses(const std::string& one, const std::string& other) const {
  for (const char* member : {"loss", "grad_norm", "validation_loss"}) {
    std::vector<double> a = numbers(one, member), b = numbers(other, member);
    ASSERT_FALSE(a.empty() || b.empty()) << member;
    if (std::string_view(member) == "validation_loss") {  // a run that was continued has taken one more
      a.erase(a.begin(), a.end() - 1);
      b.erase(b.begin(), b.end() - 1);
    }
    ASSERT_EQ(a.size(), b.size()) << member;
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4 * std::max(1.0, a[i])) << member << i;
  }
}

void RankRuns::expect_same_bits(const std::string& one, const std::string& other, int steps) const {
  for (const char* member : {"loss", "grad_norm"}) EXPECT_EQ(metric(one, member), metric(other, member)) << member;
  EXPECT_EQ(tensors(one, steps), tensors(other, steps));
}

std::vector<pid_t> ProcessRuns::ranks_after(RunningProgram& program, const std::string& out, size_t steps) const {
  EXPECT_TRUE(program.wait_until([&] { return lines(out) >= steps; })) << program.err();
  return gang_of(program.pid()).ranks;
}

bool ProcessRuns::ends(pid_t pid, int timeout_ms) {
  const auto process = ProcessHandle::open(pid);
  return !process || process->ended(timeout_ms);
}

}  // namespace troupe::e2e
