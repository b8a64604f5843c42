// Ranks as processes of this host: one mpirun a generation, whose workers dial this node.
//
// Nothing outlives the agent: mpirun dies with the thread that started it, and each worker with mpirun, whatever kills
// them. What MPI leaves in shared memory when it is killed lies in a folder that goes with the generation.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/train/agent_actor.h"
#include "actors/train/rank_keeper.h"
#include "actors/train/train_wire_actor.h"
#include "runtime/base/process.h"
#include "runtime/net/local_node.h"

namespace troupe::train {

// What a worker finds in its environment.
inline constexpr const char* kHeadVariable = "TROUPE_HEAD";              // host:port
inline constexpr const char* kTokenVariable = "TROUPE_TOKEN";            // of this job
inline constexpr const char* kGenerationVariable = "TROUPE_GENERATION";  // that it belongs to
inline constexpr const char* kThreadsVariable = "TROUPE_THREADS";        // of each rank
inline constexpr const char* kKeeperVariable = "TROUPE_KEEPER";          // whom its keeper tells (rank_keeper.h)
inline constexpr const char* kDeadlineVariable = "TROUPE_COLLECTIVE_DEADLINE_MS";
inline constexpr const char* kTraceVariable = "TROUPE_TRACE";  // origin of a trace here; not set: none
// The links between head and ranks: a sign of life costs processor time that the ranks could use.
inline constexpr net::LinkOptions kRankLinks = [] {
  net::LinkOptions options;
  options.heartbeat_every = std::chrono::milliseconds(500);
  return options;
}();
// Under which it finds whom it reports to.
inline constexpr const char* kAgentName = "agent";
inline constexpr const char* kHeadName = "head";

struct ProcessGangOptions {
  std::string program;  // that is started as `program worker`
  std::string address;  // where this node listens
  std::string log;      // what mpirun and the workers print is appended here
  int threads = 1;      // of each rank
  net::LocalNode& node;
  parallel::CommunicatorOptions collectives = {};
  std::optional<std::chrono::nanoseconds> trace_origin = {};  // (chrome_trace.h); none: no trace
};

class ProcessAgentActor final : public AgentActor {
 public:
  explicit ProcessAgentActor(ProcessGangOptions options) : options_(std::move(options)) {}
  ~ProcessAgentActor() override;

  actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) override;
  actor::Task<void> kill_gang(std::string reason) override;
  actor::Task<Result<GangEnd>> end_gang() override;

  // A worker has come up. Error: it is of another generation, and should end.
  Status joined(RankJoined rank);

  using Protocol = actor::Methods<&ProcessAgentActor::joined>;

 private:
  struct Rank {
    RankJoined joined;
    ProcessHandle process;
  };
  Result<ChildProcess> start_processes(const GangSpec& spec) const;
  std::string shared_memory() const;  // the folder of this generation
  // Takes note of who has ended; true once someone has without being told.
  bool look();
  void kill_all();
  bool all_gone() const;

  ProcessGangOptions options_;
  std::optional<ChildProcess> mpirun_;
  std::optional<RankEnds> ends_;
  int64_t generation_ = -1;
  std::vector<std::optional<Rank>> ranks_;
  std::optional<RankEnd> first_;  // that ended badly, of those that were not told to
  GangEnd end_;
  bool killing_ = false, killed_ = false;
};

}  // namespace troupe::train
