// `kill -9` of any process of a run but its head, at any moment: every run ends with the bits of one that was left
// alone, and leaves nothing behind. TROUPE_KILLS says how many kills there are in all (5), TROUPE_SEED which ones.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "tests/e2e/process_runs.h"

namespace troupe::e2e {
namespace {

namespace fs = std::filesystem;
using testing::Each;
using testing::StartsWith;

constexpr int kSteps = 40, kMostKillsOfARun = 3;  // more would end it, as they should
constexpr const char* kMarker = "TROUPE_TEST_RUN";

uint64_t number(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Shared memory and mounts of this program's own, where the system allows it: then whatever is left was left by us.
bool enter_own_namespaces() {
  static const bool entered = [] {
    return unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0 &&
           mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, nullptr) == 0;
  }();
  return entered;
}

std::vector<std::string> shared_memory_left(pid_t head) {
  std::vector<std::string> left;
  const bool own = enter_own_namespaces();
  for (const auto& entry : fs::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (own || name.starts_with("troupe-" + std::to_string(head) + "-")) left.push_back(name);
  }
  std::ifstream segments("/proc/sysvipc/shm");
  std::string line;
  std::getline(segments, line);
  while (own && std::getline(segments, line)) left.push_back("SysV segment " + line);
  return left;
}

// Processes that were started for this run, wherever they have got to.
std::vector<std::string> processes_left(const std::string& marker) {
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    const std::string environment = pid > 0 ? proc_file(pid, "environ") : "";
    if (environment.find(std::string(kMarker) + "=" + marker) == std::string::npos) continue;
    const auto process = ProcessHandle::open(pid);
    if (process && !process->ended(2000)) left.push_back(entry.path());
  }
  return left;
}

class Kills : public ProcessRuns {
 protected:
  using Random = std::mt19937_64;
  static double uniform(Random& random, double most) { return std::uniform_real_distribution<>(0, most)(random); }
  static int any(Random& random, int count) { return std::uniform_int_distribution<>(0, count - 1)(random); }

  const std::vector<std::string> settings_{"train.steps=" + std::to_string(kSteps), "train.global_batch=12",
                                           "checkpoint.every=10"};

  // Waits for a moment of one kind or another; what it was.
  std::string wait_for_moment(RunningProgram& program, const std::string& out, double run_seconds, Random& random) {
    const auto after = [&](const std::string& what, double most_seconds) {
      const double seconds = uniform(random, most_seconds);
      program.wait_until([] { return false; }, seconds);
      return what + " + " + std::to_string(seconds) + " s";
    };
    switch (any(random, 6)) {
      case 0: return after("any time", run_seconds);
      case 1:
        program.wait_until([&] { return !gang_of(program.pid()).keepers.empty(); });
        return after("workers start", 0.3);
      case 2: {
        const size_t lines_before = lines(out), more = static_cast<size_t>(any(random, kSteps));
        program.wait_until([&] { return lines(out) > lines_before + more; }, 2 * run_seconds);
        return after("in a step", 0.01);
      }
      case 3:
        program.wait_until([&] { return is_saving(out); }, 2 * run_seconds);
        return after("a checkpoint is written", 0.01);
      case 4: {
        program.wait_until([&] { return is_saving(out) || exists(checkpoint(out, kSteps)); }, 2 * run_seconds);
        program.wait_until([&] { return exists(checkpoint(out, kSteps)); }, 2 * run_seconds);
        return after("the end", 0.05);
      }
      default: {
        std::vector<pid_t> ranks;
        program.wait_until([&] { return !(ranks = gang_of(program.pid()).ranks).empty(); });
        if (ranks.empty()) return "none";
        const pid_t stopped = ranks[static_cast<size_t>(any(random, static_cast<int>(ranks.size())))];
        kill(stopped, SIGSTOP);  // the others wait for it, and so for its end
        const std::string what = after("a rank stands still", 0.3);
        if (any(random, 2) == 0) kill(stopped, SIGCONT);
        return what;
      }
    }
  }
  bool is_saving(const std::string& out) const {
    if (!exists(out + "/checkpoints")) return false;
    return std::ranges::any_of(list(out + "/checkpoints"), [](const auto& name) { return !name.starts_with("step-"); });
  }

  struct Victim {
    std::string what;
    std::set<std::string> names;  // what a message may name it by
  };
  static std::string named(pid_t pid) { return "pid " + std::to_string(pid) + ")"; }

  Victim kill_somebody(pid_t head, Random& random) {
    const Gang gang = gang_of(head);
    if (!gang.mpirun) return {};
    const int lot = any(random, 10);
    Victim victim;
    pid_t pid = *gang.mpirun;
    if (!gang.ranks.empty() && lot < 7) {
      pid = gang.ranks[static_cast<size_t>(any(random, static_cast<int>(gang.ranks.size())))];
      victim = {"a rank", {named(pid)}};
    } else if (!gang.keepers.empty() && lot < 9) {
      pid = gang.keepers[static_cast<size_t>(any(random, static_cast<int>(gang.keepers.size())))];
      victim = {"a keeper", {named(pid), named(*gang.mpirun)}};
      for (const Process& process : family_of(pid)) victim.names.insert(named(process.pid));
    } else {
      victim = {"mpirun", {named(pid)}};
    }
    kill(pid, SIGKILL);
    return victim;
  }

  // One run with up to `kills` of them; how many there were.
  int run_and_kill(const std::string& out, int ranks, int kills, double run_seconds, Random& random) {
    const std::string marker = std::to_string(getpid()) + "-" + out;
    setenv(kMarker, marker.c_str(), 1);
    RunningProgram program(arguments(out, "--processes", ranks, settings_), here());
    unsetenv(kMarker);
    const pid_t head = program.pid();
    std::string story;
    std::vector<Victim> victims;
    int done = 0;
    for (int k = 0; k < kills; ++k) {
      const std::string moment = wait_for_moment(program, out, run_seconds, random);
      const Victim victim = kill_somebody(head, random);
      if (victim.names.empty()) break;  // it has ended
      ++done;
      victims.push_back(victim);
      story += moment + ": " + victim.what + " " + *victim.names.begin() + "\n";
      const std::string next = "generation " + std::to_string(k + 1) + " starts";
      program.wait_for_output(next);
    }
    const Outcome outcome = program.wait();
    SCOPED_TRACE(out + "\n" + story + describe(outcome));
    EXPECT_EQ(outcome.exit_code, 0);
    expect_same_bits("undisturbed-" + std::to_string(ranks), out, kSteps);
    expect_causes(outcome.err, victims);
    EXPECT_EQ(processes_left(marker), std::vector<std::string>());
    EXPECT_EQ(shared_memory_left(head), std::vector<std::string>());
    expect_whole(out);
    return done;
  }
  // Every lost generation is put down to one of those that were killed, perhaps while it called the head.
  static void expect_causes(const std::string& err, const std::vector<Victim>& victims) {
    for (const std::string& line : messages(err)) {
      if (line.starts_with("troupe: warning: a caller was refused: ")) continue;
      EXPECT_THAT(line, StartsWith("troupe: warning: "));
      EXPECT_TRUE(std::ranges::any_of(victims, [&](const Victim& victim) {
        return std::ranges::any_of(victim.names,
                                   [&](const std::string& name) { return line.find(name) != std::string::npos; });
      })) << line;
    }
  }
  void expect_whole(const std::string& out) const {
    const std::set<std::string> known{".lock",    "checkpoints",   "generation", "loss.svg",
                                      "run.json", "metrics.jsonl", "tokens",     "workers.log"};
    for (const std::string& name : list(out)) EXPECT_TRUE(known.contains(name)) << name;
    EXPECT_THAT(list(out + "/checkpoints"), Each(StartsWith("step-")));
    for (const std::string& name : list(out + "/checkpoints"))
      EXPECT_TRUE(exists(out + "/checkpoints/" + name + "/manifest.json")) << name;
    EXPECT_THAT(read(out + "/metrics.jsonl"), testing::EndsWith("}\n"));
  }
};

TEST_F(Kills, AtAnyMomentChangeNoBitAndLeaveNothing) {
  const int kills = static_cast<int>(number("TROUPE_KILLS", 5));
  const uint64_t seed = number("TROUPE_SEED", std::random_device()());
  printf("%d kills, TROUPE_SEED=%llu%s\n", kills, static_cast<unsigned long long>(seed),
         enter_own_namespaces() ? "" : " (no namespaces: shared memory is checked by name alone)");
  Random random(seed);
  double run_seconds = 0;
  for (int run = 0, done = 0; done < kills && !HasFailure(); ++run) {
    const std::string out = "run-" + std::to_string(run);
    const int ranks = std::vector{2, 2, 3, 4}[static_cast<size_t>(run) % 4];
    const std::string undisturbed = "undisturbed-" + std::to_string(ranks);
    if (!exists(undisturbed)) train_on(undisturbed, "--ranks", ranks, settings_);
    const auto begin = std::chrono::steady_clock::now();
    const int here = run == 0 ? 0 : std::min(1 + any(random, kMostKillsOfARun), kills - done);
    done += run_and_kill(out, ranks, here, run_seconds, random);
    if (run == 0) run_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    fs::remove_all(path(out));
  }
}

}  // namespace
}  // namespace troupe::e2e
