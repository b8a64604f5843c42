// One start of the program that trains, in the simulation: its process, the host that it runs on, and what it says.
#pragma once
#include <optional>

#include "actors/train/head_actor.h"
#include "tests/simulator/gang.h"
#include "tests/simulator/run_files.h"

namespace troupe::simulator {

struct RunShape {
  std::string out;
  net::LinkOptions links;
  train::HeadOptions head = {};
  int ranks = 1;
  nanoseconds step{0}, staging{0}, slowest{0};
  bool death_signals = true;
};

class Head final : public train::RunObserver {
 public:
  // Takes OUT and begins to train there. `stepped` is called for each step that counts.
  Head(Simulation& simulation, RunLedger& ledger, const Disk& disk, const RunShape& shape, bool resume,
       std::function<void(int64_t)> stepped);

  // It has said how it ended, or was killed.
  bool over() const { return end_.has_value() || dead_; }
  // Its end is put down; its process ends, if it still lives. True: the run is done.
  bool finish();
  void kill(Death death);
  void stop();

  Process* process() const { return simulation_.find(process_); }
  Host& host() { return host_; }
  Start& start() { return start_; }

  void started(const train::RunStart& run) override { ledger_.started(start_, run); }
  void stepped(const train::MetricsLine& line) override;
  void warned(const std::string& message) override;

 private:
  void expect_no_orphans();
  Simulation& simulation_;
  RunLedger& ledger_;
  Start& start_;
  const std::function<void(int64_t)> stepped_;
  RunFiles files_;
  Host host_;
  std::optional<train::RunFolder> folder_;
  uint64_t process_ = 0;
  std::optional<Result<train::RunEnd>> end_;
  bool dead_ = false;
};

}  // namespace troupe::simulator
