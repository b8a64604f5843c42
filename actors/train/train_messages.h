// What head, agent and ranks say to each other. Plain values; their bytes are those of train.capnp.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "actors/train/metrics.h"
#include "checkpoint/checkpoint.h"

namespace troupe::train {

// What a rank is told when it joins.
struct RankAssignment {
  std::string config;       // TOML, resolved
  std::string config_path;  // for messages
  std::string out;
  int64_t generation = 0;
  double peak_flops = 0;  // of all ranks together, per second, for MFU; 0: unknown
};

// Why a rank could not do what it was asked, where doing it again would end the same way: a config, a loss that is not
// finite, a full disk. A rank that is lost answers nothing.
struct RankFailure {
  int32_t kind = 0;  // of ErrorKind; 0: none
  std::string message;

  static RankFailure of(const Error& error) { return {static_cast<int32_t>(error.kind()), error.message()}; }
  explicit operator bool() const { return kind != 0; }
  Error error() const { return {static_cast<ErrorKind>(kind), message}; }
};

// What it answers once it holds model and data.
struct RankReady {
  RankFailure failure;
  int64_t parameters = 0;
  std::string device;
};

// What it answers when it was told to load a checkpoint.
struct RankLoaded {
  RankFailure failure;
  int64_t completed = 0;
};

struct CheckpointFolder {
  std::string folder;
};

// Steps [first, last], in order, and what follows some of them. All ranks are given the same.
struct StepPlan {
  int64_t first_step = 1, last_step = 0;
  std::vector<int64_t> validate_after, save_after;
};

// How a plan ended; the same on all ranks but for the failure's text.
struct PlanReport {
  RankFailure failure;
  int64_t completed = 0;     // the last step done
  bool interrupted = false;  // before last_step, because someone asked; the state after `completed` is staged
};

// A rank that runs as a process has come up.
struct RankJoined {
  int64_t rank = 0, generation = 0, pid = 0;
  uint64_t node = 0, trainer = 0;  // where its TrainerActor is
};

using StagedCheckpoint = checkpoint::CheckpointStore::Staged;

}  // namespace troupe::train
