// Ranks as processes of this host, which dial this node. How they are started, and what their host tells of them, is
// gang_processes.h's.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/train/agent_actor.h"
#include "actors/train/train_wire_actor.h"
#include "runtime/net/local_node.h"

namespace troupe::train {

// The links between head and ranks: a sign of life costs processor time that the ranks could use.
inline constexpr net::LinkOptions kRankLinks = [] {
  net::LinkOptions options;
  options.heartbeat_every = std::chrono::milliseconds(500);
  return options;
}();
// Under which a worker finds whom it reports to.
inline constexpr const char* kAgentName = "agent";
inline constexpr const char* kHeadName = "head";

class ProcessAgentActor final : public AgentActor {
 public:
  // `node` is this one, and outlives the agent.
  ProcessAgentActor(std::unique_ptr<GangLauncher> launcher, net::LocalNode& node)
      : launcher_(std::move(launcher)), node_(node) {}

  actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) override;
  actor::Task<void> kill_gang(std::string reason) override;
  actor::Task<Result<GangEnd>> end_gang() override;

  // A worker has come up. Error: it is of another generation, and should end.
  Status joined(RankJoined rank);

  using Protocol = actor::Methods<&ProcessAgentActor::joined>;

 private:
  // Takes note of who has ended; true once someone has without being told.
  bool look();
  void kill_all();

  const std::unique_ptr<GangLauncher> launcher_;
  net::LocalNode& node_;
  std::unique_ptr<GangProcesses> gang_;  // null: none
  int64_t generation_ = -1;
  std::vector<std::optional<RankJoined>> ranks_;
  std::optional<RankEnd> first_;  // that ended badly, of those that were not told to
  GangEnd end_;
  bool killing_ = false, killed_ = false;
};

}  // namespace troupe::train
