// Ranks as threads of this process: the default, and what tests use. Each has a device of its own.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "actors/train/agent_actor.h"

namespace troupe::train {

struct ThreadGangOptions {
  int threads = 1;  // of each rank
  FileSystem& files;
  const Clock& clock;
  std::shared_ptr<const RunSetup> setup = nullptr;  // with its data; null: every rank reads it
  TraceFile* trace = nullptr;                       // that ranks are traced into; null: none
  std::chrono::nanoseconds trace_origin{};          // (chrome_trace.h)
  parallel::CommunicatorOptions collectives = {};
};

class ThreadAgentActor final : public AgentActor {
 public:
  explicit ThreadAgentActor(ThreadGangOptions options) : options_(options) {}

  actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) override;
  actor::Task<void> kill_gang(std::string reason) override;
  actor::Task<Result<GangEnd>> end_gang() override;
  actor::Task<void> on_start() override;

 private:
  ThreadGangOptions options_;
  // What outlives the ranks of a generation.
  std::vector<std::unique_ptr<ChromeTrace>> traces_;
  std::vector<std::unique_ptr<kernels::Device>> devices_;
  std::vector<std::shared_ptr<parallel::Communicator>> groups_;
  std::vector<actor::Ref<TrainerActor>> ranks_;
};

}  // namespace troupe::train
