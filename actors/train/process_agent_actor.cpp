#include "actors/train/process_agent_actor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "runtime/actor/node.h"
#include "runtime/actor/waiting.h"

namespace troupe::train {

using actor::Ref;
using actor::Task;

namespace {

// How often the agent looks whether processes have come up or gone.
constexpr std::chrono::milliseconds kLook{5};
// How long a worker may take to end by itself.
constexpr std::chrono::seconds kFarewell{5};

constexpr std::string_view kSharedMemory = "/dev/shm";
constexpr std::string_view kOurs = "troupe-";

// What agents left there that were killed.
void remove_abandoned_memory() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kSharedMemory, ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kOurs)) continue;
    const int pid = std::atoi(name.c_str() + kOurs.size());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) std::filesystem::remove_all(entry.path(), ignored);
  }
}

actor::Address address_of(const RankJoined& rank) {
  return {rank.node, rank.trainer, fmt::format("trainer-{}.g{}", rank.rank, rank.generation)};
}

}  // namespace

ProcessAgentActor::~ProcessAgentActor() { kill_gang("the agent ends"); }

std::string ProcessAgentActor::shared_memory() const {
  return fmt::format("{}/{}{}-{:x}.g{}", kSharedMemory, kOurs, getpid(), options_.node.self().node, generation_);
}

Result<ChildProcess> ProcessAgentActor::start_processes(const GangSpec& spec) const {
  std::error_code ignored;  // without the folder MPI takes its usual place
  std::filesystem::create_directories(shared_memory(), ignored);
  ProcessOptions process;
  process.arguments = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(spec.ranks)};
  if (!ignored) {
    for (const char* argument : {"--mca", "btl_vader_backing_directory"}) process.arguments.emplace_back(argument);
    process.arguments.push_back(shared_memory());
  }
  process.environment = {{kHeadVariable, options_.address},
                         {kTokenVariable, options_.node.token()},
                         {kGenerationVariable, std::to_string(spec.generation)},
                         {kThreadsVariable, std::to_string(options_.threads)}};
  for (const auto& [name, value] : process.environment) process.arguments.insert(process.arguments.end(), {"-x", name});
  process.arguments.insert(process.arguments.end(), {options_.program, "worker"});
  if (geteuid() == 0) {
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  process.output = options_.log;
  process.own_session = true;
  process.death_signal = SIGKILL;
  return ChildProcess::start(process);
}

Task<Result<std::vector<Ref<TrainerActor>>>> ProcessAgentActor::start_gang(GangSpec spec) {
  TROUPE_CHECK(!mpirun_, "a gang while another lives");
  if (generation_ < 0) remove_abandoned_memory();
  generation_ = spec.generation;
  ranks_.assign(static_cast<size_t>(spec.ranks), std::nullopt);
  options_.node.enter_generation(static_cast<uint64_t>(spec.generation));
  mpirun_.emplace(TROUPE_CO_TRY(start_processes(spec)));
  while (!std::ranges::all_of(ranks_, [](const auto& rank) { return rank.has_value(); })) {
    if (const auto end = ended()) co_return failed("the ranks did not come up: {}", *end);
    TROUPE_CO_TRY(co_await sleep(kLook));
  }
  std::vector<Ref<TrainerActor>> trainers;
  for (const auto& rank : ranks_) {
    trainers.push_back(TROUPE_CO_TRY(node().ref<TrainerActor>(address_of(*rank))));
  }
  co_return trainers;
}

Status ProcessAgentActor::joined(RankJoined rank) {
  if (rank.generation != generation_ || rank.rank < 0 || rank.rank >= static_cast<int64_t>(ranks_.size()))
    return failed("rank {} of generation {} is not awaited", rank.rank, rank.generation);
  ranks_[static_cast<size_t>(rank.rank)] = rank;
  return {};
}

std::optional<std::string> ProcessAgentActor::ended() {
  const auto end = mpirun_->poll();
  if (!end) return std::nullopt;
  return fmt::format("mpirun {} (its output is in {})", end->describe(), options_.log);
}

void ProcessAgentActor::kill_gang(std::string) {
  for (const auto& rank : ranks_) {
    if (rank) ::kill(static_cast<pid_t>(rank->pid), SIGKILL);
  }
  if (mpirun_) mpirun_->send(SIGKILL);  // those that have not joined die with it
}

bool ProcessAgentActor::all_gone() const {
  return std::ranges::none_of(ranks_,
                              [](const auto& rank) { return rank && ::kill(static_cast<pid_t>(rank->pid), 0) == 0; });
}

Task<Status> ProcessAgentActor::end_gang() {
  if (!mpirun_) co_return Status();
  for (const auto& rank : ranks_) {
    if (!rank) continue;
    const auto trainer = node().ref<TrainerActor>(address_of(*rank));
    if (trainer.ok()) trainer->stop("the generation has ended");
  }
  const auto patience = now() + kFarewell;
  while (!mpirun_->poll() && now() < patience) TROUPE_CO_TRY(co_await sleep(kLook));
  kill_gang("it does not end");
  while (!mpirun_->poll() || !all_gone()) TROUPE_CO_TRY(co_await sleep(kLook));
  std::error_code ignored;
  std::filesystem::remove_all(shared_memory(), ignored);
  mpirun_.reset();
  ranks_.clear();
  co_return Status();
}

}  // namespace troupe::train
