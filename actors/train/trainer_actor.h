// One rank as an actor: passes plans on to the rank's own thread and its reports on to the head, so that no message is
// on the way of a step. Spawned reentrant: it hears stop() while a plan runs.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "actors/train/rank_thread.h"
#include "actors/train/train_messages.h"
#include "actors/train/train_wire_actor.h"
#include "actors/train/training_rank.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/ref.h"

namespace troupe::train {

class HeadActor;

// What a rank runs on. All but `ranks` outlive the actor.
struct RankContext {
  kernels::Device& device;
  FileSystem& files;
  const Clock& clock;
  std::shared_ptr<parallel::Communicator> ranks;  // used by the rank's thread alone, but for abort()
  actor::Ref<HeadActor> head;
  std::shared_ptr<const RunSetup> setup = nullptr;  // what the ranks of this process share; null: it is read
  TraceSink* trace = nullptr;                       // null: nobody wants to know
};

class TrainerActor final : public actor::Actor {
 public:
  explicit TrainerActor(RankContext context) : context_(std::move(context)) {}
  ~TrainerActor() override;

  // Each begins when the one before has ended, on the rank's thread. An exception there (a broken invariant, a group
  // that was aborted) is this actor's death; having no memory is a failure that is answered.
  actor::Task<Result<RankReady>> prepare(RankAssignment assignment);
  actor::Task<Result<RankLoaded>> load(CheckpointFolder from);
  actor::Task<Result<PlanReport>> run(StepPlan plan);
  // Ends run() after the step at hand, and what prepares for it soon, with an interrupted failure.
  void stop();
  // Has sent all of the trace that there is.
  void flush_trace();
  // What it does at this moment, and who is awaited: a line, and where the rank has a node of its own, a line for each
  // of its actors that is not idle.
  actor::Task<std::string> report();

  actor::Task<void> on_stop() override;

  using Protocol = actor::Methods<&TrainerActor::prepare, &TrainerActor::load, &TrainerActor::run, &TrainerActor::stop,
                                  &TrainerActor::flush_trace, &TrainerActor::report>;

 private:
  // Runs `work` on the rank's thread and waits for what it returns. An error that is not its own: this actor ends.
  template <class T, class Work>
  actor::Task<Result<Result<T>>> on_thread(Work work);

  void interrupt();

  RankContext context_;
  std::atomic<bool> stopped_ = false;                                               // for jobs that prepare
  std::shared_ptr<std::atomic<int>> jobs_ = std::make_shared<std::atomic<int>>(0);  // handed to the thread, not ended
  std::unique_ptr<TrainingRank> rank_;  // written here; jobs use what they find when they are handed over
  RankThread thread_;                   // last: it ends first, with the job at hand
};

}  // namespace troupe::train
