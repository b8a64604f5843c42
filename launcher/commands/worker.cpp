// troupe worker: one rank of a run as a process and its keeper, started by mpirun for the head of the run; not for
// people. What it needs to know stands in its environment (mpirun_gang.h).
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>

#include "actors/train/head_actor.h"
#include "actors/train/mpirun_gang.h"
#include "actors/train/process_agent_actor.h"
#include "actors/train/run_trace.h"
#include "launcher/commands/command.h"
#include "parallel/comm/mpi_session.h"
#include "runtime/actor/node_warnings.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"
#include "runtime/base/cores.h"
#include "runtime/base/signals.h"
#include "runtime/net/tcp.h"

namespace troupe::launcher {
namespace {

constexpr std::chrono::seconds kPatience{20};
// For what is on its way to the head when the rank has ended; less than the agent waits for this process.
constexpr std::chrono::seconds kFarewell{2};

Result<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return usage_error("worker: {} is not set; `troupe train --processes N` starts workers", name);
  return std::string(value);
}

// Tells the main thread when the rank is no more.
class Worker final : public actor::Actor {
 public:
  Worker(train::RankContext context, std::promise<actor::Cause>& ended) : context_(std::move(context)), ended_(ended) {}

  actor::Task<void> on_start() override {
    supervise({.strategy = actor::Strategy::ignore});
    trainer_ = spawn<train::TrainerActor>({.reentrant = true}, context_);
    watch<&Worker::down>(trainer_);
    co_return;
  }
  actor::Address trainer() { return {node().options().id, trainer_.endpoint()->id(), trainer_.name()}; }
  void down(actor::Down down) { ended_.set_value(down.cause); }

 private:
  train::RankContext context_;
  std::promise<actor::Cause>& ended_;
  actor::Ref<train::TrainerActor> trainer_;
};

Status worker_command() {
  // Head, mpirun, worker: each dies with the one before, whatever ends it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == 1) return failed("worker: mpirun is gone");
  const std::string head_address = TROUPE_TRY(variable(train::kHeadVariable));
  const std::string token = TROUPE_TRY(variable(train::kTokenVariable));
  const auto generation = std::strtoull(TROUPE_TRY(variable(train::kGenerationVariable)).c_str(), nullptr, 10);
  const int threads = std::max(1, std::atoi(TROUPE_TRY(variable(train::kThreadsVariable)).c_str()));
  parallel::CommunicatorOptions collectives;
  collectives.deadline =
      std::chrono::milliseconds(std::max(1, std::atoi(TROUPE_TRY(variable(train::kDeadlineVariable)).c_str())));
  const std::string keeper = TROUPE_TRY(variable(train::kKeeperVariable));
  const char* number = std::getenv("PMIX_RANK");  // from mpirun and srun alike
  TROUPE_TRY(train::keep_rank(number ? std::atoi(number) : 0, keeper));
  const StopSignals ignored;  // the head decides when a rank stops

  const auto session = TROUPE_TRY(parallel::MpiSession::open());
  const std::shared_ptr<parallel::Communicator> ranks = session->world("world", collectives);
  keep_to_own_cores(session->rank(), session->size(), threads);
  const std::string name = fmt::format("trainer-{}", session->rank());
  const net::LocalNode local(TROUPE_TRY(net::LocalNode::here(name, generation)), net::program_build(), token);
  const net::Peer& self = local.self();
  const auto device = kernels::make_cpu_device(threads);
  PosixFileSystem files;
  const SteadyClock clock;

  std::unique_ptr<ChromeTrace> trace;
  if (const char* origin = std::getenv(train::kTraceVariable)) {
    trace = train::trace_of_rank(session->rank(), fmt::format("host {}, pid {}", self.host, self.pid),
                                 std::chrono::nanoseconds(std::strtoll(origin, nullptr, 10)));
    trace->name_lane(kLoopLane, "loop 0");
    ranks->trace_to(trace.get());
  }

  std::promise<actor::Cause> ended;
  actor::NodeOptions options{.name = name,
                             .host = self.host,
                             .pid = self.pid,
                             .id = self.node,
                             .generation = generation,
                             .trace = trace.get()};
  // Without its head a rank has nothing to do, and nobody to tell.
  std::atomic<bool> leaving = false;
  options.on_link = [&leaving](const net::Peer&, const actor::Cause& lost) {
    if (!lost || leaving) return;
    std::fprintf(stderr, "troupe: %s\n", lost->message().c_str());
    std::_Exit(1);
  };
  actor::NodeWarnings warnings(
      clock, [](const std::string& line) { std::fprintf(stderr, "troupe: warning: %s\n", line.c_str()); });
  warnings.hear(options);
  actor::ThreadedNode node(std::move(options), 1, {.spin = std::chrono::nanoseconds(0)});  // the core is the rank's
  net::Transport& tcp = node.add(std::make_unique<net::TcpTransport>(node.loop(), local, train::kRankLinks));
  const net::Peer peer = TROUPE_TRY(node->connect_blocking(tcp, head_address, kPatience));
  const auto head = TROUPE_TRY(node->lookup_blocking<train::HeadActor>(peer.node, train::kHeadName, kPatience));
  const auto agent =
      TROUPE_TRY(node->lookup_blocking<train::ProcessAgentActor>(peer.node, train::kAgentName, kPatience));
  const auto worker =
      node->spawn<Worker>({}, train::RankContext{*device, files, clock, ranks, head, nullptr, trace.get()}, ended);
  const actor::Address trainer = TROUPE_TRY(worker.ask_blocking<&Worker::trainer>(kPatience));
  TROUPE_TRY(agent.ask_blocking<&train::ProcessAgentActor::joined>(
      train::RankJoined{session->rank(), static_cast<int64_t>(generation), self.pid, trainer.node, trainer.actor},
      kPatience));

  if (trace) {
    trace->deliver_to(
        [&head](TracePiece piece) { return head.try_tell<&train::HeadActor::traced>(std::move(piece)).ok(); });
  }
  const actor::Cause cause = ended.get_future().get();
  if (trace) {
    trace->flush();
    trace->deliver_to(nullptr);
  }
  leaving = true;
  const bool well = cause->kind == actor::Exit::Kind::stopped && !session->aborted();
  if (!well) std::fprintf(stderr, "troupe: %s\n", cause->message().c_str());
  (void)node->stop_blocking(kFarewell).ok();  // what was told last reaches the head
  if (well) return {};
  std::_Exit(1);  // after an abort MPI would wait for ranks that are no more
}

}  // namespace

void add_worker_command(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("worker", "One rank of a run (started by train --processes)")->group("");
  command->callback([&action] { action = worker_command; });
}

}  // namespace troupe::launcher
