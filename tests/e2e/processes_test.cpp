// Ranks as processes: the bits of threads; and whoever is killed, the run ends as if nothing had been, or says why not.
#include <dirent.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

// The processes below `root` whose command line ends with `word`, mpirun's own apart.
std::vector<pid_t> descendants(pid_t root, const std::string& word) {
  std::vector<std::pair<pid_t, pid_t>> parents;  // process, its parent
  DIR* folder = opendir("/proc");
  while (const dirent* entry = readdir(folder)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    std::ifstream file("/proc/" + std::string(entry->d_name) + "/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t name_end = text.rfind(')');
    if (name_end != std::string::npos) parents.emplace_back(pid, std::atoi(text.c_str() + name_end + 4));
  }
  closedir(folder);
  std::vector<pid_t> family{root}, found;
  for (size_t i = 0; i < family.size(); ++i) {
    for (const auto& [pid, parent] : parents) {
      if (parent != family[i]) continue;
      family.push_back(pid);
      std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
      const std::string command((std::istreambuf_iterator<char>(file)), {});
      if (!command.starts_with("mpirun") && command.size() > word.size() &&
          std::string(command.c_str() + command.size() - word.size() - 1) == word)
        found.push_back(pid);
    }
  }
  std::ranges::sort(found);
  return found;
}

class Processes : public EndToEnd {
 protected:
  void SetUp() override {
#ifndef TROUPE_WITH_MPI
    GTEST_SKIP() << "built without MPI";
#endif
  }
  std::vector<std::string> arguments(const std::string& out, const std::string& mode, int ranks,
                                     const std::vector<std::string>& settings = {}, bool resume = false) const {
    std::vector<std::string> all = train_arguments(out, settings, resume);
    all.insert(all.end(), {mode, std::to_string(ranks)});
    return all;
  }
  void train_on(const std::string& out, const std::string& mode, int ranks,
                const std::vector<std::string>& settings = {}, bool resume = false) const {
    const Outcome outcome = troupe(arguments(out, mode, ranks, settings, resume));
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  }
  void expect_same_bits(const std::string& one, const std::string& other, int steps) const {
    for (const char* member : {"loss", "grad_norm"}) EXPECT_EQ(metric(one, member), metric(other, member)) << member;
    EXPECT_EQ(tensors(one, steps), tensors(other, steps));
  }
  size_t lines(const std::string& out) const {
    const std::string text = exists(out + "/metrics.jsonl") ? read(out + "/metrics.jsonl") : "";
    return static_cast<size_t>(std::ranges::count(text, '\n'));
  }
  RunOptions here() const {
    RunOptions options;
    options.folder = folder();
    return options;
  }
  static bool alive(pid_t pid) { return kill(pid, 0) == 0; }

  const std::vector<std::string> longer_{"train.steps=200", "checkpoint.every=10", "checkpoint.keep=0"};
};

TEST_F(Processes, HaveTheBitsOfThreads) {
  train_on("threads", "--ranks", 2, {"train.validate_every=10"});
  train_on("processes", "--processes", 2, {"train.validate_every=10"});
  expect_same_bits("threads", "processes", 20);
  EXPECT_EQ(metric("threads", "validation_loss"), metric("processes", "validation_loss"));
  EXPECT_EQ(read("processes/workers.log"), "") << "a run that ends well says nothing there";
}

TEST_F(Processes, AKilledRankIsNamedAndTheRunEndsAsIfItHadNotBeen) {
  train_on("undisturbed", "--ranks", 2, longer_);
  RunningProgram program(arguments("killed", "--processes", 2, longer_), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("killed") >= 25; }));
  const std::vector<pid_t> workers = descendants(program.pid(), "worker");
  ASSERT_EQ(workers.size(), 2u);
  kill(workers[1], SIGKILL);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, HasSubstr(std::to_string(workers[1])));
  EXPECT_THAT(outcome.err, HasSubstr("generation 1 starts from killed/checkpoints/step-"));
  expect_same_bits("undisturbed", "killed", 200);
  EXPECT_THAT(read("killed/metrics.jsonl"), HasSubstr("\"generation\":1"));
  for (pid_t worker : workers) EXPECT_FALSE(alive(worker));
}

TEST_F(Processes, RanksThatAreKilledAgainAndAgainEndTheRunWithTheFirstCause) {
  RunningProgram program(arguments("out", "--processes", 2, {"train.steps=1000000"}), here());
  std::vector<pid_t> killed;
  const bool ended = !program.wait_until([&] {
    const std::vector<pid_t> workers = descendants(program.pid(), "worker");
    if (workers.size() == 2 && std::ranges::find(killed, workers[0]) == killed.end()) {
      killed.push_back(workers[0]);
      kill(workers[0], SIGKILL);
    }
    return killed.size() > 20;
  });
  EXPECT_TRUE(ended);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 1) << describe(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("too many"));
}

TEST_F(Processes, WithoutTheirHeadWorkersEndAndTheSameCommandGoesOn) {
  train_on("undisturbed", "--ranks", 2, longer_);
  std::vector<pid_t> workers;
  {
    RunningProgram program(arguments("killed", "--processes", 2, longer_), here());
    EXPECT_TRUE(program.wait_until([&] { return lines("killed") >= 25; }));
    workers = descendants(program.pid(), "worker");
    ASSERT_EQ(workers.size(), 2u);
    program.send(SIGKILL);
    EXPECT_EQ(program.wait().signal, SIGKILL);
  }
  RunOptions shell = here();
  shell.program = "/bin/sh";
  RunningProgram clock({"-c", "sleep 2"}, shell);
  clock.wait_until([&] { return !alive(workers[0]) && !alive(workers[1]); });
  for (pid_t worker : workers) EXPECT_FALSE(alive(worker)) << "two seconds after its head was killed";
  train_on("killed", "--processes", 2, longer_, true);
  expect_same_bits("undisturbed", "killed", 200);
}

TEST_F(Processes, ASignalStopsAllOfThemAfterTheSameStep) {
  RunningProgram program(arguments("out", "--processes", 2, {"train.steps=1000000"}), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= 3; }));
  program.send(SIGINT);
  const Outcome outcome = program.wait();
  const auto steps = static_cast<int>(lines("out"));
  expect_failure(outcome, 75, {"state saved in " + checkpoint("out", steps), "--resume"});
}

TEST_F(Processes, AWorkerByItselfSaysWhoStartsIt) {
  expect_failure(troupe({"worker"}), 2, {"TROUPE_HEAD", "troupe train --processes"});
}

}  // namespace
}  // namespace troupe::e2e
