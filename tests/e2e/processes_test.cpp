// Ranks as processes: the bits of threads; and whoever is killed or stopped, the run ends as if nothing had been, or
// says why not.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>

#include "runtime/base/check.h"
#include "tests/e2e/process_runs.h"

namespace troupe::e2e {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

class Processes : public ProcessRuns {
 protected:
  const std::vector<std::string> longer_{"train.steps=200", "checkpoint.every=20", "checkpoint.keep=0"};
  const std::vector<std::string> endless_{"train.steps=1000000"};

  // A run on two processes that has taken some steps.
  struct Pair {
    Pair(const Processes& test, const std::string& out, const std::vector<std::string>& settings, size_t steps = 25)
        : program(test.arguments(out, "--processes", 2, settings), test.here()),
          ranks(test.ranks_after(program, out, steps)) {
      TROUPE_CHECK(ranks.size() == 2, "{} ranks: {}", ranks.size(), program.err());
    }
    RunningProgram program;
    std::vector<pid_t> ranks;
  };
};

std::string killed(pid_t pid) { return "rank [0-9]+ \\(host [^ ]+, pid " + std::to_string(pid) + "\\) was killed by "; }

// A variable of a process's environment.
std::string variable_of(pid_t pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/environ");
  for (std::string entry; std::getline(file, entry, '\0');) {
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  }
  return "";
}

TEST_F(Processes, HaveTheBitsOfThreads) {
  train_on("threads", "--ranks", 2, {"train.validate_every=10"});
  train_on("processes", "--processes", 2, {"train.validate_every=10"});
  expect_same_bits("threads", "processes", 20);
  EXPECT_EQ(metric("threads", "validation_loss"), metric("processes", "validation_loss"));
  EXPECT_EQ(read("processes/workers.log"), "") << "a run that ends well says nothing there";
}

TEST_F(Processes, OneAloneHasTheBitsOfAThread) {
  train_on("thread", "--ranks", 1);
  train_on("process", "--processes", 1);
  expect_same_bits("thread", "process", 20);
}

TEST_F(Processes, AKilledRankIsNamedAndTheRunEndsAsIfItHadNotBeen) {
  train_on("undisturbed", "--ranks", 2, longer_);
  Pair pair(*this, "killed", longer_);
  auto& [program, ranks] = pair;
  kill(ranks[1], SIGKILL);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex("troupe: warning: " + killed(ranks[1]) +
                                         "SIGKILL at step [0-9]+; generation 1 starts on 2 ranks from step [0-9]+0\n"));
  expect_same_bits("undisturbed", "killed", 200);
  EXPECT_THAT(read("killed/metrics.jsonl"), HasSubstr("\"generation\":1"));
  for (pid_t rank : ranks) EXPECT_FALSE(alive(rank));
}

TEST_F(Processes, ARankKilledWhileAnotherWaitsForItInACollectiveIsTheOneNamed) {
  train_on("undisturbed", "--ranks", 2, longer_);
  Pair pair(*this, "killed", longer_);
  auto& [program, ranks] = pair;
  stop_process(ranks[0]);
  EXPECT_TRUE(program.wait_until([&] { return thread_sleeps(ranks[1], "rank"); })) << "in a collective";
  kill(ranks[1], SIGABRT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex(killed(ranks[1]) + "SIGABRT at step [0-9]+; generation 1 starts"));
  expect_same_bits("undisturbed", "killed", 200);
}

TEST_F(Processes, AStoppedRankIsCutOffAndDoesNoHarmWhenItIsWoken) {
  train_on("undisturbed", "--ranks", 2, longer_);
  Pair pair(*this, "stopped", longer_);
  auto& [program, ranks] = pair;
  stop_process(ranks[1]);
  EXPECT_TRUE(program.wait_for_output("generation 1 starts"));
  EXPECT_FALSE(alive(ranks[1])) << "nothing of a generation is left when the next one starts";
  kill(ranks[1], SIGCONT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex("rank [01] \\(host [^ ]+, pid " + std::to_string(ranks[1]) +
                                         "\\) was lost at step [0-9]+: no sign of life"));
  expect_same_bits("undisturbed", "stopped", 200);
}

TEST_F(Processes, ARankThatDoesNotComeToACollectiveInTimeIsNamedByTheOthers) {
  // One plan, without a checkpoint: whenever a rank stops, the other goes on to a collective and waits there.
  std::vector<std::string> settings{"train.steps=200", "checkpoint.every=0"};
  train_on("undisturbed", "--ranks", 2, settings);
  settings.push_back("parallel.collective_deadline_seconds=1");
  Pair pair(*this, "stopped", settings);
  auto& [program, ranks] = pair;
  stop_process(ranks[1]);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex("no answer from rank [01] \\(node [^ ]+, pid " + std::to_string(ranks[1]) +
                                         "\\) for 1.0 s in all_reduce.*; generation 1 starts on 2 ranks"));
  expect_same_bits("undisturbed", "stopped", 200);
}

TEST_F(Processes, AWorkerOfAnEarlierGenerationIsRefused) {
  Pair pair(*this, "out", endless_, 3);
  auto& [program, first] = pair;
  std::vector<std::pair<std::string, std::string>> environment;
  for (const char* name : {"TROUPE_HEAD", "TROUPE_TOKEN", "TROUPE_GENERATION", "TROUPE_THREADS", "TROUPE_KEEPER",
                           "TROUPE_COLLECTIVE_DEADLINE_MS"})
    environment.emplace_back(name, variable_of(first[0], name));
  EXPECT_EQ(environment[2].second, "0");
  kill(first[0], SIGKILL);
  EXPECT_TRUE(
      program.wait_until([&] { return read("out/metrics.jsonl").find("\"generation\":1") != std::string::npos; }));
  // As one that was cut off, and comes back: outside of any gang, so that nobody kills it.
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  const Outcome stale = troupe({"worker"});
  for (const auto& [name, value] : environment) ::unsetenv(name.c_str());
  expect_failure(stale, 1, {"generation"});
  const size_t before = lines("out");
  EXPECT_TRUE(program.wait_until([&] { return lines("out") > before + 3; })) << "the run goes on";
  EXPECT_THAT(program.err(), ContainsRegex("troupe: warning: a caller was refused: 127.0.0.1:[0-9]+: trainer-0 \\(host "
                                           "[^ ]+, pid [0-9]+\\) belongs to generation 0"));
  program.send(SIGINT);
  EXPECT_EQ(program.wait().exit_code, 75);
}

TEST_F(Processes, AKilledRankLeavesATraceThatIsWholeAndSaysWhatIsMissing) {
  std::vector<std::string> all = arguments("out", "--processes", 2, longer_);
  all.insert(all.end(), {"--trace", "trace.json"});
  RunningProgram program(all, here());
  const std::vector<pid_t> workers = ranks_after(program, "out", 25);
  ASSERT_EQ(workers.size(), 2u);
  kill(workers[1], SIGKILL);
  EXPECT_EQ(program.wait().exit_code, 0);
  int notes = 0, last_step = 0;
  const auto events = boost::json::parse(read("trace.json"));
  for (const auto& event : events.as_array()) {
    if (event.at("ph").as_string() == "i") {
      ++notes;
      EXPECT_THAT(std::string(event.at("name").as_string()), HasSubstr(std::to_string(workers[1])));
      EXPECT_THAT(std::string(event.at("name").as_string()), HasSubstr("missing"));
    }
    if (event.at("name").as_string() == "optimizer")
      last_step = std::max(last_step, event.at("args").at("step").to_number<int>());
  }
  EXPECT_EQ(notes, 1);
  EXPECT_EQ(last_step, 200) << "the next generation goes on in the same file";
}

TEST_F(Processes, AReportNamesTheRankThatIsAwaitedAndTheRunGoesOn) {
  Pair pair(*this, "out", endless_, 5);
  auto& [program, workers] = pair;
  stop_process(workers[1]);
  const std::string stopped = "pid " + std::to_string(workers[1]) + ")";
  std::string report;
  // The other one may still have work of its own when the first report is made.
  for (int attempt = 0; attempt < 3 && report.find("waiting for rank") == std::string::npos; ++attempt) {
    const size_t begin = program.err().size();
    program.send(SIGQUIT);
    ASSERT_TRUE(
        program.wait_until([&] { return program.err().find("troupe: end of report", begin) != std::string::npos; }));
    report = program.err().substr(begin);
  }
  kill(workers[1], SIGCONT);
  EXPECT_THAT(report, testing::ContainsRegex("head \\(node head, host .*, pid [0-9]+\\)"));
  EXPECT_THAT(report, HasSubstr("HeadActor::run waits for answer of"));
  EXPECT_THAT(report, testing::ContainsRegex("step [0-9]+: .* for [0-9.]+ s; [0-9.]+ s in .* of group \"[^\"]+\", "
                                             "waiting for rank [01] \\(node .*" +
                                             stopped.substr(0, stopped.size() - 1)));
  EXPECT_THAT(report, testing::ContainsRegex("rank [01] \\(node trainer-[01], host .*" +
                                             stopped.substr(0, stopped.size() - 1) + "\\)\n  no answer"));
  const size_t before = lines("out");
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= before + 5; })) << "it goes on";
  program.send(SIGINT);
  EXPECT_EQ(program.wait().exit_code, 75);
}

TEST_F(Processes, RanksThatAreKilledAgainAndAgainEndTheRunWithTheFirstCause) {
  RunningProgram program(arguments("out", "--processes", 2, endless_), here());
  std::vector<pid_t> victims;
  const bool ended = !program.wait_until([&] {
    const Gang gang = gang_of(program.pid());
    if (gang.ranks.size() == 2 && std::ranges::find(victims, gang.ranks[0]) == victims.end()) {
      victims.push_back(gang.ranks[0]);
      kill(gang.ranks[0], SIGKILL);
    }
    return victims.size() > 20;
  });
  EXPECT_TRUE(ended);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 1) << describe(outcome);
  EXPECT_EQ(victims.size(), 4u) << "three may be lost";
  EXPECT_THAT(outcome.err, ContainsRegex("troupe: 4 generations were lost within .*: too many; the first: " +
                                         killed(victims[0]) + "SIGKILL "));
}

TEST_F(Processes, WithoutTheirHeadWorkersEndAndTheSameCommandGoesOn) {
  train_on("undisturbed", "--ranks", 2, longer_);
  std::vector<Process> family;
  {
    RunningProgram program(arguments("killed", "--processes", 2, longer_), here());
    ranks_after(program, "killed", 25);
    family = family_of(program.pid());
    ASSERT_EQ(family.size(), 5u) << "mpirun, two keepers, two ranks";
    program.send(SIGKILL);
    EXPECT_EQ(program.wait().signal, SIGKILL);
  }
  for (const Process& process : family) EXPECT_TRUE(ends(process.pid, 2000)) << process.command;
  train_on("killed", "--processes", 2, longer_, true);
  expect_same_bits("undisturbed", "killed", 200);
}

TEST_F(Processes, AHeadThatIsStoppedAndThenKilledTakesItsWorkersAlong) {
  RunningProgram program(arguments("out", "--processes", 2, endless_), here());
  ranks_after(program, "out", 3);
  const std::vector<Process> family = family_of(program.pid());
  EXPECT_EQ(family.size(), 5u);
  kill(program.pid(), SIGSTOP);
  kill(program.pid(), SIGKILL);
  EXPECT_EQ(program.wait().signal, SIGKILL);
  for (const Process& process : family) EXPECT_TRUE(ends(process.pid, 2000)) << process.command;
}

TEST_F(Processes, AHeadThatStoodStillForTooLongGoesOnWithTheNextGeneration) {
  train_on("undisturbed", "--ranks", 2, longer_);
  Pair pair(*this, "stopped", longer_);
  auto& [program, ranks] = pair;
  kill(program.pid(), SIGSTOP);
  for (const pid_t rank : ranks) EXPECT_TRUE(ends(rank, 20'000)) << "a rank without a head has nothing to do";
  kill(program.pid(), SIGCONT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.err, ContainsRegex("rank [01] \\(host [^ ]+, pid [0-9]+\\) exited with code 1 at step [0-9]+: "
                                         "troupe: node head .* was lost: no sign of life from head"));
  expect_same_bits("undisturbed", "stopped", 200);
}

// As where locks do not reach from one host to another, and the first head's host was given up too early.
TEST_F(Processes, AHeadWhoseFolderWasTakenOverSavesNothingMoreAndEnds) {
  const std::vector<std::string> settings{"train.steps=1000000", "checkpoint.every=50"};
  RunningProgram first(arguments("out", "--ranks", 1, settings), here());
  EXPECT_TRUE(first.wait_until([&] { return exists(checkpoint("out", 50)); }));
  unlink(path("out/.lock").c_str());
  RunningProgram second(arguments("out", "--ranks", 1, settings, true), here());
  const Outcome outcome = first.wait();
  expect_failure(outcome, 1, {"out: another run has begun generation 1 there; generation 0, this one's, is over"});
  const size_t before = lines("out");
  EXPECT_TRUE(second.wait_until([&] { return lines("out") > before + 3; })) << "which goes on";
  second.send(SIGINT);
  EXPECT_EQ(second.wait().exit_code, 75);
}

TEST_F(Processes, AFullDiskEndsTheRunAndKeepsTheEarlierCheckpoint) {
  mkdir(path("disk").c_str(), 0755);
  if (mount("none", path("disk").c_str(), "tmpfs", 0, "size=1200k") != 0) GTEST_SKIP() << "needs the right to mount";
  const Outcome outcome = troupe(arguments("disk/out", "--processes", 2, {"checkpoint.every=5", "checkpoint.keep=0"}));
  expect_failure(outcome, 1, {"disk/out/checkpoints/", "No space left on device"});
  const auto left = list("disk/out/checkpoints");
  EXPECT_FALSE(left.empty());
  EXPECT_THAT(left, testing::Each(testing::StartsWith("step-"))) << "something half-written is visible";
  umount2(path("disk").c_str(), MNT_DETACH);
}

#ifdef TROUPE_WITH_MPI
TEST_F(Processes, ADiskThatTakesLongerThanALinkMayBeSilentLosesNobody) {
  RunOptions options = here();
  options.program = "/usr/bin/env";
  std::vector<std::string> command{"LD_PRELOAD=" TROUPE_SLOW_DISK, TROUPE_BINARY};
  for (const std::string& argument : arguments("out", "--processes", 2)) command.push_back(argument);
  const Outcome outcome = run(command, options);
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_EQ(messages(outcome.err), std::vector<std::string>()) << "a generation was lost";
  EXPECT_EQ(read("out/workers.log"), "");
  EXPECT_EQ(lines("out"), 20u);
}
#endif

TEST_F(Processes, ASignalStopsAllOfThemAfterTheSameStep) {
  RunningProgram program(arguments("out", "--processes", 2, endless_), here());
  EXPECT_TRUE(program.wait_until([&] { return lines("out") >= 3; }));
  program.send(SIGINT);
  const Outcome outcome = program.wait();
  const auto steps = static_cast<int>(lines("out"));
  expect_failure(outcome, 75, {"state saved in " + checkpoint("out", steps), "--resume"});
}

TEST_F(Processes, ASignalWhileTheyComeUpIsNotWaitedFor) {
  RunningProgram program(arguments("out", "--processes", 2, endless_), here());
  EXPECT_TRUE(program.wait_until([&] { return gang_of(program.pid()).mpirun.has_value(); }));
  const std::vector<Process> family = family_of(program.pid());
  program.send(SIGTERM);
  expect_failure(program.wait(), 75, {"stopped before the first step", "--resume"});
  for (const Process& process : family) EXPECT_TRUE(ends(process.pid, 2000)) << process.command;
  EXPECT_FALSE(exists("out/checkpoints"));
  train_on("out", "--processes", 2, {}, true);
}

TEST_F(Processes, AWorkerByItselfSaysWhoStartsIt) {
  expect_failure(troupe({"worker"}), 2, {"TROUPE_HEAD", "troupe train --processes"});
}

}  // namespace
}  // namespace troupe::e2e
