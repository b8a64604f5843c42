#include "tests/simulator/head.h"

#include "actors/train/process_agent_actor.h"
#include "runtime/actor/waiting.h"

namespace troupe::simulator {

using actor::Ref;
using actor::Task;
using namespace std::chrono_literals;

namespace {

// What a killed head leaves behind ends by itself within so long.
constexpr std::chrono::seconds kOrphans{2};

// Asks the head for the run, and hands its answer on.
class Caller final : public actor::Actor {
 public:
  using Ended = std::function<void(Result<train::RunEnd>)>;
  Caller(Ref<train::HeadActor> head, Ref<train::AgentActor> agent, Ended ended)
      : head_(std::move(head)), agent_(std::move(agent)), ended_(std::move(ended)) {}
  Task<void> on_start() override { ended_(co_await head_.ask<&train::HeadActor::run>(agent_, 24h)); }

 private:
  const Ref<train::HeadActor> head_;
  const Ref<train::AgentActor> agent_;
  const Ended ended_;
};

}  // namespace

Head::Head(Simulation& simulation, RunLedger& ledger, const Disk& disk, const RunShape& shape, bool resume,
           std::function<void(int64_t)> stepped)
    : simulation_(simulation),
      ledger_(ledger),
      start_(ledger.begin(shape.head)),
      stepped_(std::move(stepped)),
      files_(disk, ledger, start_),
      host_(simulation,
            HostOptions{.name = fmt::format("host-{}", start_.number),
                        .head_address = fmt::format("head-{}", start_.number),
                        .links = shape.links,
                        .step = shape.step,
                        .staging = shape.staging,
                        .slowest = shape.slowest,
                        .death_signals = shape.death_signals,
                        .files = files_,
                        .setup = recipe().setup},
            ledger, start_) {
  Process& process = simulation.start(host_.options().head_address, shape.links);
  process_ = process.id();
  auto folder = train::RunFolder::take(files_, shape.out, resume);
  simulation.require(folder.ok(), "the folder is free", "{}", folder.ok() ? "" : folder.error().message());
  if (!folder.ok()) {
    kill(Death::of_process);
    return;
  }
  folder_.emplace(std::move(*folder));
  actor::Node& node = process.node();
  simulation.require(node.listen(process.transport(), host_.options().head_address).ok(), "a node listens", "{}",
                     process.name());
  const auto agent = node.spawn<train::ProcessAgentActor>({.reentrant = true, .registered = train::kAgentName},
                                                          host_.launcher(), process.local());
  const auto head = node.spawn<train::HeadActor>(
      {.reentrant = true, .registered = train::kHeadName},
      train::HeadContext{.setup = recipe().setup,
                         .folder = *folder_,
                         .observer = *this,
                         .assignment = {.config = recipe().config, .config_path = "simulated.toml", .out = shape.out},
                         .config_json = recipe().config_json,
                         .ranks = shape.ranks,
                         .resume = resume,
                         .clock = simulation.loop.clock(),
                         .options = shape.head});
  node.spawn<Caller>({}, head, Ref<train::AgentActor>(agent.endpoint()), [this](Result<train::RunEnd> end) {
    end_.emplace(std::move(end));
    ledger_.ended(start_, *end_);
  });
}

void Head::stepped(const train::MetricsLine& line) {
  ledger_.counted(start_, line);
  stepped_(line.step);
}

void Head::warned(const std::string& message) {
  simulation_.trace(fmt::format("start {} warns: {}", start_.number, message));
  ledger_.warned(start_, message);
}

void Head::stop() {
  Process* alive = process();
  if (alive == nullptr || over()) return;
  start_.stop_asked = true;
  const auto head = alive->node().lookup<train::HeadActor>(train::kHeadName);
  if (head.ok()) (void)head->try_tell<&train::HeadActor::stop>().ok();
}

void Head::kill(Death death) {
  if (process() == nullptr) return;
  dead_ = true;
  if (death == Death::of_machine) host_.crash();
  else host_.head_died();
  simulation_.kill(process_, death);
  folder_.reset();  // with its lock
  expect_no_orphans();
}

void Head::expect_no_orphans() {
  host_.later(kOrphans, [this] {
    simulation_.require(host_.empty(kOrphans), "what a head leaves behind ends soon", "of start {}", start_.number);
  });
}

bool Head::finish() {
  if (end_) {
    simulation_.require(host_.at_work() == 0, "nothing is left of a run that ends", "of start {}", start_.number);
  }
  if (Process* alive = process()) {
    bool stopped = false;
    alive->go_on();
    alive->slow_down(0ns);
    alive->node().stop("the run is over", [&] { stopped = true; });
    simulation_.require(simulation_.run_until([&] { return stopped; }, 40s), "a node that is told to stop stops", "{}",
                        alive->name());
    simulation_.require(alive->node().living() == 0, "nothing is left", "{} actors", alive->node().living());
    simulation_.kill(process_, Death::of_process);
    folder_.reset();
    expect_no_orphans();
  }
  return end_ && end_->ok() && !(*end_)->interrupted;
}

}  // namespace troupe::simulator
