// The disk of a simulated run: a folder that is gone with this program, in memory where there is one; and what each
// start of a head does there, told to the ledger.
#pragma once
#include "actors/train/run_setup.h"
#include "tests/simulator/run_ledger.h"

namespace troupe::simulator {

// What all runs of this program have in common: config and data, read once, in a folder that this program has gone to:
// paths stand in messages, and the same seed sends the same ones.
struct Recipe {
  Recipe();
  ~Recipe();
  train::RunSetup setup;
  std::string config, config_json;

 private:
  std::string folder_;
};
Recipe& recipe();

// Shared by all who write in OUT: whether there is room.
struct Disk {
  bool full = false;
};

class RunFiles final : public PosixFileSystem {
 public:
  RunFiles(const Disk& disk, RunLedger& ledger, Start& start) : disk_(disk), ledger_(ledger), start_(start) {}
  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override;
  Status create_directory(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;

 private:
  const Disk& disk_;
  RunLedger& ledger_;
  Start& start_;
};

// The number in "…/step-00000120"; -1: it is no such folder.
int64_t step_of(const std::string& folder);

}  // namespace troupe::simulator
