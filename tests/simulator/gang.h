// A simulated host on which the ranks of generations run as processes: what mpirun, the keepers of ranks and the kernel
// do there, for the real agent.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "actors/train/gang_processes.h"
#include "runtime/actor/handoff.h"
#include "tests/simulator/run_ledger.h"

namespace troupe::simulator {

struct HostOptions {
  std::string name;
  std::string head_address;
  net::LinkOptions links;
  nanoseconds step{0};     // what one takes
  nanoseconds staging{0};  // what a checkpoint takes
  nanoseconds slowest{0};  // until a process has started, heard a signal, or been missed by mpirun
  // A process hears of the death of the one that started it (as by PR_SET_PDEATHSIG).
  bool death_signals = true;
  FileSystem& files;
  const train::RunSetup& setup;
};

// What ranks agree on before a step.
struct Meeting {
  bool stop = false;        // one of them was told to
  bool not_finite = false;  // the loss
};

// One generation's processes.
struct Gang {
  struct Member {
    uint64_t process = 0;  // its node; 0: has not come up
    bool joined = false;
    bool over = false;          // has ended, or will never come up
    bool kept = true;           // its keeper lives
    bool missed = false;        // mpirun knows that it is over
    nanoseconds deaf_until{0};  // it stands still, or hears nothing of its head
  };
  int64_t generation = -1;
  pid_t launcher = 0;
  std::optional<ProcessEnd> launcher_end;
  bool failed = false;  // one of its ranks has, as mpirun knows
  std::vector<Member> ranks;
  std::deque<train::RankEnd> reports;
  // The collective at hand.
  size_t arrived = 0;
  bool stop = false;
  std::vector<actor::Handoff<Meeting>::Sender> waiting;
  bool not_finite = false;  // the next step's loss
};

class Host {
 public:
  Host(Simulation& simulation, HostOptions options, RunLedger& ledger, Start& start)
      : simulation_(simulation),
        options_(std::move(options)),
        ledger_(ledger),
        start_(start),
        random_(simulation.random(options_.name)) {}

  // For the agent; this outlives it.
  std::unique_ptr<train::GangLauncher> launcher();
  std::shared_ptr<Gang> start(int ranks, int64_t generation);
  void kill(const std::shared_ptr<Gang>& gang);

  // A rank's process ends, by itself or by a signal.
  void end_rank(const std::shared_ptr<Gang>& gang, size_t rank, ProcessEnd end, const std::string& last_words = "");
  void kill_launcher(const std::shared_ptr<Gang>& gang);
  // The head's process has ended: what it started hears of it, where the kernel tells.
  void head_died();
  // Power is cut.
  void crash();

  // All ranks of the gang are at the same step. Error: the rank ends.
  actor::Task<Result<Meeting>> meet(std::shared_ptr<Gang> gang, bool stop);

  // Ranks that have joined and live.
  int at_work() const;
  // No process of any gang lives, but for those that could not know yet that they are to end, and `patience` after.
  bool empty(nanoseconds patience = nanoseconds(-1)) const;
  std::shared_ptr<Gang> newest() const { return gangs_.empty() ? nullptr : gangs_.back(); }
  Simulation& simulation() { return simulation_; }
  const HostOptions& options() const { return options_; }
  RunLedger& ledger() { return ledger_; }
  Start& of() { return start_; }
  void later(nanoseconds delay, std::function<void()> what);

 private:
  nanoseconds soon() {
    return nanoseconds(static_cast<int64_t>(random_.uniform() * static_cast<double>(options_.slowest.count())));
  }
  void boot(const std::shared_ptr<Gang>& gang, size_t rank);
  // mpirun ends when its last rank has, and ends the others when one goes badly.
  void missed(const std::shared_ptr<Gang>& gang, size_t gone, ProcessEnd end);

  Simulation& simulation_;
  const HostOptions options_;
  RunLedger& ledger_;
  Start& start_;
  RandomStream random_;
  std::vector<std::shared_ptr<Gang>> gangs_;
  bool headless_ = false;
};

}  // namespace troupe::simulator
