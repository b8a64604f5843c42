#include "actors/train/process_agent_actor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

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
// How long a keeper may take to report, once its rank is lost, and how often the agent looks meanwhile.
constexpr std::chrono::milliseconds kReport{250}, kShortLook{1};

constexpr std::string_view kSharedMemory = "/dev/shm";
constexpr std::string_view kOurs = "troupe-";

// What Open MPI's messages between processes of one host need, and no more: its start looks into every network it knows
// otherwise, which takes longer than all else.
constexpr std::array<std::pair<const char*, const char*>, 2> kMpiSettings{
    {{"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_btl", "self,vader"}}};

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

ProcessAgentActor::~ProcessAgentActor() { kill_all(); }

std::string ProcessAgentActor::shared_memory() const {
  return fmt::format("{}/{}{}-{:x}.g{}", kSharedMemory, kOurs, getpid(), options_.node.self().node, generation_);
}

Result<ChildProcess> ProcessAgentActor::start_processes(const GangSpec& spec) const {
  std::error_code ignored;  // without the folder MPI takes its usual places
  std::filesystem::create_directories(shared_memory(), ignored);
  ProcessOptions process;
  process.arguments = {"mpirun", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(spec.ranks)};
  process.environment = {{kHeadVariable, options_.address},
                         {kTokenVariable, options_.node.token()},
                         {kGenerationVariable, std::to_string(spec.generation)},
                         {kThreadsVariable, std::to_string(options_.threads)},
                         {kKeeperVariable, ends_->address()},
                         {kDeadlineVariable, std::to_string(options_.collectives.deadline.count())}};
  if (options_.trace_origin)
    process.environment.emplace_back(kTraceVariable, std::to_string(options_.trace_origin->count()));
  for (const auto& [name, value] : process.environment) process.arguments.insert(process.arguments.end(), {"-x", name});
  process.arguments.insert(process.arguments.end(), {options_.program, "worker"});
  if (geteuid() == 0) {
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    process.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  std::vector<std::pair<std::string, std::string>> settings(kMpiSettings.begin(), kMpiSettings.end());
  if (!ignored) {
    settings.emplace_back("OMPI_MCA_btl_vader_backing_directory", shared_memory());
    settings.emplace_back("OMPI_MCA_orte_tmpdir_base", shared_memory());
  }
  for (const auto& setting : settings) {  // a user's own stand
    if (std::getenv(setting.first.c_str()) == nullptr) process.environment.push_back(setting);
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
  ranks_.clear();
  ranks_.resize(static_cast<size_t>(spec.ranks));
  first_.reset();
  end_ = {};
  killing_ = killed_ = false;
  ends_ = TROUPE_CO_TRY(RankEnds::listen());
  options_.node.enter_generation(static_cast<uint64_t>(spec.generation));
  mpirun_.emplace(TROUPE_CO_TRY(start_processes(spec)));
  while (!std::ranges::all_of(ranks_, [](const auto& rank) { return rank.has_value(); })) {
    if (look()) {
      // What is missing here will be missing the next time, too.
      if (first_ && first_->end.exit_code == Error(ErrorKind::environment, "").exit_code())
        co_return environment_error("{} while the ranks came up: {}", end_.first, end_.last_words);
      co_return failed("the ranks did not come up");
    }
    if (killed_) co_return failed("the ranks were ended while they came up");
    TROUPE_CO_TRY(co_await sleep(kLook));
  }
  std::vector<Ref<TrainerActor>> trainers;
  for (const auto& rank : ranks_) {
    trainers.push_back(TROUPE_CO_TRY(node().ref<TrainerActor>(address_of(rank->joined))));
  }
  co_return trainers;
}

Status ProcessAgentActor::joined(RankJoined rank) {
  if (killed_ || rank.generation != generation_ || rank.rank < 0 || rank.rank >= static_cast<int64_t>(ranks_.size()))
    return failed("rank {} of generation {} is not awaited", rank.rank, rank.generation);
  auto process = ProcessHandle::open(static_cast<pid_t>(rank.pid));
  if (!process) return failed("rank {} has gone", rank.rank);
  ranks_[static_cast<size_t>(rank.rank)] = Rank{rank, std::move(*process)};
  return {};
}

bool ProcessAgentActor::look() {
  const std::string& host = options_.node.self().host;
  while (auto end = ends_->take()) {
    const bool well = end->end.signal == 0 && end->end.exit_code == 0;
    if (killed_ || well || (first_ && first_->at <= end->at)) continue;
    first_ = std::move(end);
    end_ = {fmt::format("rank {} (host {}, pid {}) {}", first_->rank, host, first_->pid, first_->end.describe()),
            first_->end.signal == 0 ? first_->last_words : ""};  // a signal's own handlers speak of themselves
  }
  // A rank takes mpirun with it: that one's end says something only where no rank has told of its own.
  if (const auto end = mpirun_->poll(); end && !killed_ && end_.first.empty()) {
    end_ = {fmt::format("mpirun (host {}, pid {}) {}", host, mpirun_->pid(), end->describe()),
            "its output is in " + options_.log};
  }
  return !end_.first.empty();
}

void ProcessAgentActor::kill_all() {
  killed_ = true;
  for (const auto& rank : ranks_) {
    if (rank) rank->process.send(SIGKILL);
  }
  if (mpirun_) mpirun_->send(SIGKILL);  // those that have not joined die with it
}

Task<void> ProcessAgentActor::kill_gang(std::string) {
  if (!mpirun_ || std::exchange(killing_, true)) co_return;
  // A link tells of a death before the dead one's keeper does.
  const auto patience = now() + kReport;
  while (!look() && now() < patience && (co_await sleep(kShortLook)).ok()) {
  }
  kill_all();
}

bool ProcessAgentActor::all_gone() const {
  return std::ranges::all_of(ranks_, [](const auto& rank) { return !rank || rank->process.ended(); });
}

Task<Result<GangEnd>> ProcessAgentActor::end_gang() {
  if (!mpirun_) co_return GangEnd();
  if (!killing_) {
    for (const auto& rank : ranks_) {
      if (!rank) continue;
      const auto trainer = node().ref<TrainerActor>(address_of(rank->joined));
      if (trainer.ok()) trainer->stop("the generation has ended");
    }
    const auto patience = now() + kFarewell;
    while (!mpirun_->poll() && now() < patience) TROUPE_CO_TRY(co_await sleep(kLook));
    look();
    kill_all();
  }
  while (!killed_ || !mpirun_->poll() || !all_gone()) TROUPE_CO_TRY(co_await sleep(kLook));
  std::error_code ignored;
  std::filesystem::remove_all(shared_memory(), ignored);
  mpirun_.reset();
  ends_.reset();
  ranks_.clear();
  co_return std::move(end_);
}

}  // namespace troupe::train
