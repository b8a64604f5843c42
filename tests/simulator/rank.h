// What runs in the process of a simulated rank: a worker that dials the head, as `troupe worker` does, and a stand-in
// for the trainer, which speaks TrainerActor's protocol but keeps a number for a model.
#pragma once
#include "actors/train/head_actor.h"
#include "tests/simulator/gang.h"

namespace troupe::simulator {

// A checkpoint of the stand-ins is whole, and holds the model after that step.
bool holds_state_after(const std::string& checkpoint, int64_t step);
// The same, but that something is missing.
void damage(const std::string& checkpoint);

class GangWorker final : public actor::Actor {
 public:
  GangWorker(Host& host, std::shared_ptr<Gang> gang, int rank) : host_(host), gang_(std::move(gang)), rank_(rank) {}
  actor::Task<void> on_start() override;
  void down(actor::Down down);

 private:
  actor::Task<Status> come_up();
  Host& host_;
  const std::shared_ptr<Gang> gang_;
  const int rank_;
};

// A worker of a generation that is over, on a host that was given up: it comes back, and is not let in.
class Stray final : public actor::Actor {
 public:
  explicit Stray(Host& host) : host_(host) {}
  actor::Task<void> on_start() override;

 private:
  Host& host_;
};

// In the order of TrainerActor's Protocol.
class Rank final : public actor::Actor {
 public:
  Rank(Host* host, std::shared_ptr<Gang> gang, int rank, actor::Ref<train::HeadActor> head)
      : host_(*host), gang_(std::move(gang)), rank_(rank), head_(std::move(head)) {}
  actor::Task<Result<train::RankReady>> prepare(train::RankAssignment assignment);
  actor::Task<Result<train::RankLoaded>> load(train::CheckpointFolder from);
  actor::Task<Result<train::PlanReport>> run(train::StepPlan plan);
  void stop_asked() { stop_ = true; }

  using Protocol = actor::Methods<&Rank::prepare, &Rank::load, &Rank::run, &Rank::stop_asked>;

 private:
  actor::Task<Status> tell();
  // Error: the rank ends; a failure: it cannot be done.
  actor::Task<Result<train::RankFailure>> stage();

  Host& host_;
  const std::shared_ptr<Gang> gang_;
  const int rank_;
  const actor::Ref<train::HeadActor> head_;
  train::RankAssignment assignment_;
  std::vector<train::MetricsLine> lines_;  // not told of yet
  nanoseconds told_{0};
  bool stop_ = false;
  int64_t completed_ = 0;
  uint64_t state_ = 0;
};

}  // namespace troupe::simulator
