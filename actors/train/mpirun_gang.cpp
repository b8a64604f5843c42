#include "actors/train/mpirun_gang.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

namespace troupe::train {
namespace {

constexpr std::string_view kSharedMemory = "/dev/shm";
constexpr std::string_view kOurs = "troupe-";

// What Open MPI's messages between processes of one host need, and no more: its start looks into every network it knows
// otherwise, which takes longer than all else.
constexpr std::array<std::pair<const char*, const char*>, 2> kMpiSettings{
    {{"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_btl", "self,vader"}}};

// What gangs left there that were killed with their agent.
void remove_abandoned_memory() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kSharedMemory, ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kOurs)) continue;
    const int pid = std::atoi(name.c_str() + kOurs.size());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) std::filesystem::remove_all(entry.path(), ignored);
  }
}

Result<ChildProcess> start_mpirun(const MpirunOptions& options, int ranks, int64_t generation,
                                  const std::string& shared_memory, const std::string& keepers_tell) {
  std::error_code ignored;  // without the folder MPI takes its usual places
  std::filesystem::create_directories(shared_memory, ignored);
  ProcessOptions process;
  process.arguments = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(ranks)};
  process.environment = {{kHeadVariable, options.address},
                         {kTokenVariable, options.node.token()},
                         {kGenerationVariable, std::to_string(generation)},
                         {kThreadsVariable, std::to_string(options.threads)},
                         {kKeeperVariable, keepers_tell},
                         {kDeadlineVariable, std::to_string(options.collectives.deadline.count())}};
  if (options.trace_origin)
    process.environment.emplace_back(kTraceVariable, std::to_string(options.trace_origin->count()));
  for (const auto& [name, value] : process.environment) process.arguments.insert(process.arguments.end(), {"-x", name});
  process.arguments.insert(process.arguments.end(), {options.program, "worker"});
  if (geteuid() == 0) {
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  std::vector<std::pair<std::string, std::string>> settings(kMpiSettings.begin(), kMpiSettings.end());
  if (!ignored) {
    settings.emplace_back("OMPI_MCA_btl_vader_backing_directory", shared_memory);
    settings.emplace_back("OMPI_MCA_orte_tmpdir_base", shared_memory);
  }
  for (const auto& setting : settings) {  // a user's own stand
    if (std::getenv(setting.first.c_str()) == nullptr) process.environment.push_back(setting);
  }
  process.output = options.log;
  process.own_session = true;
  process.death_signal = SIGKILL;
  return ChildProcess::start(process);
}

class MpirunGang final : public GangProcesses {
 public:
  MpirunGang(const MpirunOptions& options, int ranks, RankEnds ends, std::string shared_memory, ChildProcess mpirun)
      : options_(options),
        ends_(std::move(ends)),
        shared_memory_(std::move(shared_memory)),
        ranks_(static_cast<size_t>(ranks)),
        mpirun_(std::move(mpirun)) {}
  ~MpirunGang() override {
    kill();
    std::error_code ignored;
    std::filesystem::remove_all(shared_memory_, ignored);
  }

  bool joined(int rank, pid_t pid) override {
    auto process = ProcessHandle::open(pid);
    if (!process) return false;
    ranks_.at(static_cast<size_t>(rank)) = std::move(process);
    return true;
  }
  std::optional<RankEnd> next_end() override { return ends_.take(); }
  std::optional<GangEnd> launcher_end() override {
    const auto end = mpirun_.poll();
    if (!end) return std::nullopt;
    return GangEnd{
        fmt::format("mpirun (host {}, pid {}) {}", options_.node.self().host, mpirun_.pid(), end->describe()),
        "its output is in " + options_.log};
  }
  void kill() override {
    for (const auto& rank : ranks_) {
      if (rank) rank->send(SIGKILL);
    }
    mpirun_.send(SIGKILL);  // those that have not joined die with it
  }
  bool gone() override {
    return mpirun_.poll() && std::ranges::all_of(ranks_, [](const auto& rank) { return !rank || rank->ended(); });
  }

 private:
  const MpirunOptions& options_;
  RankEnds ends_;
  const std::string shared_memory_;
  std::vector<std::optional<ProcessHandle>> ranks_;  // that have joined
  ChildProcess mpirun_;
};

}  // namespace

Result<std::unique_ptr<GangProcesses>> MpirunLauncher::start(int ranks, int64_t generation) {
  if (!std::exchange(cleaned_, true)) remove_abandoned_memory();
  RankEnds ends = TROUPE_TRY(RankEnds::listen());
  const std::string shared_memory =
      fmt::format("{}/{}{}-{:x}.g{}", kSharedMemory, kOurs, getpid(), options_.node.self().node, generation);
  ChildProcess mpirun = TROUPE_TRY(start_mpirun(options_, ranks, generation, shared_memory, ends.address()));
  return std::unique_ptr<GangProcesses>(
      new MpirunGang(options_, ranks, std::move(ends), shared_memory, std::move(mpirun)));
}

}  // namespace troupe::train
