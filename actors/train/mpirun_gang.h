// Ranks as processes of this host: one mpirun a generation, which starts `program worker` for each.
//
// Nothing outlives the thread that started it: mpirun dies with that one, and each worker with mpirun, whatever kills
// them. What MPI leaves in shared memory when it is killed lies in a folder that goes with the generation.
#pragma once
#include <chrono>
#include <string>

#include "actors/train/gang_processes.h"
#include "parallel/comm/communicator.h"
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

struct MpirunOptions {
  std::string program;  // that is started as `program worker`
  std::string address;  // where the agent's node listens
  std::string log;      // what mpirun and the workers print is appended here
  int threads = 1;      // of each rank
  const net::LocalNode& node;
  parallel::CommunicatorOptions collectives = {};
  std::optional<std::chrono::nanoseconds> trace_origin = {};  // (chrome_trace.h); none: no trace
};

class MpirunLauncher final : public GangLauncher {
 public:
  explicit MpirunLauncher(MpirunOptions options) : options_(std::move(options)) {}
  Result<std::unique_ptr<GangProcesses>> start(int ranks, int64_t generation) override;

 private:
  const MpirunOptions options_;
  bool cleaned_ = false;  // what others left in shared memory was looked for
};

}  // namespace troupe::train
