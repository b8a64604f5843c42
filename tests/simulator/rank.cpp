#include "tests/simulator/rank.h"

#include <cstdlib>

#include "actors/train/process_agent_actor.h"
#include "runtime/actor/linking.h"
#include "runtime/actor/waiting.h"
#include "runtime/base/file.h"

namespace troupe::simulator {

using actor::Ref;
using actor::Task;
using namespace std::chrono_literals;

namespace {

constexpr std::chrono::seconds kPatience{20};
constexpr std::chrono::milliseconds kTellEvery{100};

Result<uint64_t> state_in(const std::string& checkpoint) {
  return std::strtoull(TROUPE_TRY(read_file(checkpoint + "/state")).c_str(), nullptr, 16);
}

}  // namespace

bool holds_state_after(const std::string& checkpoint, int64_t step) {
  const auto opened = checkpoint::Checkpoint::open(checkpoint);
  const auto state = state_in(checkpoint);
  return opened.ok() && opened->manifest().step == step && state.ok() && *state == state_after(step);
}

void damage(const std::string& checkpoint) {
  PosixFileSystem files;
  (void)files.remove(checkpoint + "/state").ok();
}

Task<void> GangWorker::on_start() {
  supervise({.strategy = actor::Strategy::ignore});
  const Status up = co_await come_up();
  if (up.ok()) co_return;
  host_.later(0ns, [&host = host_, gang = gang_, rank = rank_, why = up.error().message()] {
    host.end_rank(gang, static_cast<size_t>(rank), {1, 0}, "troupe: " + why);
  });
}

Task<Status> GangWorker::come_up() {
  Process& process = *host_.simulation().find(node().options().id);
  const net::Peer peer =
      TROUPE_CO_TRY(co_await actor::connect(node(), process.transport(), host_.options().head_address, kPatience));
  const auto head =
      TROUPE_CO_TRY(co_await actor::lookup<train::HeadActor>(node(), peer.node, train::kHeadName, kPatience));
  const auto agent =
      TROUPE_CO_TRY(co_await actor::lookup<train::ProcessAgentActor>(node(), peer.node, train::kAgentName, kPatience));
  const auto rank = spawn<Rank>({.name = "trainer", .reentrant = true}, &host_, gang_, rank_, head);
  watch<&GangWorker::down>(rank);
  TROUPE_CO_TRY(co_await agent.ask<&train::ProcessAgentActor::joined>(
      train::RankJoined{rank_, gang_->generation, process.local().self().pid, node().options().id,
                        rank.endpoint()->id()},
      kPatience));
  co_return Status();
}

void GangWorker::down(actor::Down down) {
  const bool well = down.cause->kind == actor::Exit::Kind::stopped;
  host_.simulation().find(node().options().id)->on_link = nullptr;
  const auto leave = [&host = host_, gang = gang_, rank = rank_, well, why = down.cause->message()] {
    host.end_rank(gang, static_cast<size_t>(rank), {well ? 0 : 1, 0}, well ? "" : "troupe: " + why);
  };
  node().stop("the rank has ended", [&host = host_, leave] { host.later(1ms, leave); });
}

Task<void> Stray::on_start() {
  Simulation& simulation = host_.simulation();
  Process& process = *simulation.find(node().options().id);
  const int64_t generation = static_cast<int64_t>(node().options().generation);
  const auto peer = co_await actor::connect(node(), process.transport(), host_.options().head_address, 2s);
  if (!peer.ok()) co_return;
  simulation.require(false, "an older generation is refused", "generation {} was let in", generation);
}

Task<Result<train::RankReady>> Rank::prepare(train::RankAssignment assignment) {
  host_.simulation().require(assignment.generation == gang_->generation, "a rank works for its generation",
                             "rank {} of generation {} is told {}", rank_, gang_->generation, assignment.generation);
  assignment_ = std::move(assignment);
  TROUPE_CO_TRY(co_await sleep(host_.options().step));
  co_return train::RankReady{{}, 1000, "simulated"};
}

Task<Result<train::RankLoaded>> Rank::load(train::CheckpointFolder from) {
  TROUPE_CO_TRY(co_await sleep(host_.options().step));
  const auto opened = checkpoint::Checkpoint::open(from.folder);
  const auto state = state_in(from.folder);
  if (!opened.ok() || !state.ok())
    co_return train::RankLoaded{train::RankFailure::of(damaged("{} cannot be read", from.folder)), 0};
  completed_ = opened->manifest().step;
  state_ = *state;
  co_return train::RankLoaded{{}, completed_};
}

Task<Status> Rank::tell() {
  told_ = now();
  for (const train::MetricsLine& line : std::exchange(lines_, {})) {
    if (!head_.try_tell<&train::HeadActor::stepped>(line).ok())
      TROUPE_CO_TRY(co_await head_.ask<&train::HeadActor::stepped>(line, train::kPlanDeadline));
  }
  co_return Status();
}

Task<Result<train::PlanReport>> Rank::run(train::StepPlan plan) {
  host_.simulation().require(plan.first_step == completed_ + 1, "a plan goes on where the rank is",
                             "rank {} of generation {} is to go on with step {} after step {}", rank_,
                             gang_->generation, plan.first_step, completed_);
  host_.ledger().plan_given(host_.of(), gang_->generation, plan);
  bool stopped = false;
  while (completed_ < plan.last_step) {
    const Meeting meeting = TROUPE_CO_TRY(co_await host_.meet(gang_, stop_));
    stopped = meeting.stop;
    if (stopped) break;
    if (meeting.not_finite) {
      TROUPE_CO_TRY(co_await tell());
      const Error error = failed("step {}: the loss is nan", completed_ + 1);
      co_return train::PlanReport{train::RankFailure::of(error), completed_, false};
    }
    state_ = next_state(state_, ++completed_);
    host_.ledger().stepped(host_.of(), gang_->generation, completed_);
    if (rank_ != 0) continue;
    train::MetricsLine line;
    line.step = completed_;
    line.loss = to_uniform_double(state_);
    line.generation = gang_->generation;
    lines_.push_back(line);
    if (now() - told_ >= kTellEvery) TROUPE_CO_TRY(co_await tell());
  }
  train::PlanReport report{{}, completed_, stopped};
  if (rank_ == 0) report.failure = TROUPE_CO_TRY(co_await stage());
  co_return report;
}

Task<Result<train::RankFailure>> Rank::stage() {
  TROUPE_CO_TRY(co_await sleep(host_.options().staging));
  checkpoint::CheckpointStore store(host_.options().files, assignment_.out + "/checkpoints");
  checkpoint::Manifest header;
  header.step = completed_;
  header.generation = gang_->generation;
  header.config = assignment_.config;
  header.labels = host_.options().setup.labels();
  const auto staged = store.stage(std::move(header), {}, [&](const std::string& into) {
    return write_file_atomically(host_.options().files, into + "/state", fmt::format("{:016x}\n", state_));
  });
  TROUPE_CO_TRY(co_await tell());
  if (!staged.ok()) co_return train::RankFailure::of(staged.error());
  TROUPE_CO_TRY(co_await head_.ask<&train::HeadActor::staged>(*staged, train::kPlanDeadline));
  co_return train::RankFailure();
}

}  // namespace troupe::simulator
