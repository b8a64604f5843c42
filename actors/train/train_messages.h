// What head, agent and ranks say to each other. Plain values; their bytes are those of train.capnp.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "actors/train/metrics.h"
#include "checkpoint/checkpoint.h"
#include "runtime/base/chrome_trace.h"

namespace troupe::train {

// What a rank is told when it joins.
struct RankAssignment {
  std::string config;       // TOML, resolved
  std::string config_path;  // for messages
  std::string out;
  int64_t generation = 0;
  double peak_flops = 0;  // of all ranks together, per second, for MFU; 0: unknown
  // Of what the head has read: a rank that reads something else must not train on it.
  std::string tokenizer_fingerprint = {};
  uint64_t data_fingerprint = 0;

  friend bool operator==(const RankAssignment&, const RankAssignment&) = default;
};

// Why a rank could not do what it was asked, where doing it again would end the same way: a config, a loss that is not
// finite, a full disk. A rank that is lost answers nothing.
struct RankFailure {
  int32_t kind = 0;  // of ErrorKind; 0: none
  std::string message;

  static RankFailure of(const Error& error) { return {static_cast<int32_t>(error.kind()), error.message()}; }
  explicit operator bool() const { return kind != 0; }
  Error error() const { return {static_cast<ErrorKind>(kind), message}; }

  friend bool operator==(const RankFailure&, const RankFailure&) = default;
};

// What it answers once it holds model and data.
struct RankReady {
  RankFailure failure;
  int64_t parameters = 0;
  std::string device;

  friend bool operator==(const RankReady&, const RankReady&) = default;
};

// What it answers when it was told to load a checkpoint.
struct RankLoaded {
  RankFailure failure;
  int64_t completed = 0;

  friend bool operator==(const RankLoaded&, const RankLoaded&) = default;
};

struct CheckpointFolder {
  std::string folder;

  friend bool operator==(const CheckpointFolder&, const CheckpointFolder&) = default;
};

// Steps [first, last], in order; the state after the last one is staged. All ranks are given the same.
struct StepPlan {
  int64_t first_step = 1, last_step = 0;

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// A plan has no time of its own, nor has what is done for one: whoever is lost is noticed by its link.
inline constexpr std::chrono::hours kPlanDeadline{24 * 365};

// How a plan ended; the same on all ranks but for the failure, which may be one rank's alone.
struct PlanReport {
  RankFailure failure;
  int64_t completed = 0;     // the last step done
  bool interrupted = false;  // before last_step, because someone asked; the state after `completed` is staged

  friend bool operator==(const PlanReport&, const PlanReport&) = default;
};

// A rank that runs as a process has come up.
struct RankJoined {
  int64_t rank = 0, generation = 0, pid = 0;
  uint64_t node = 0, trainer = 0;  // where its TrainerActor is

  friend bool operator==(const RankJoined&, const RankJoined&) = default;
};

using troupe::TracePiece;
using StagedCheckpoint = checkpoint::CheckpointStore::Staged;

}  // namespace troupe::train
