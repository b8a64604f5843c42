// The head of a training run: has the ranks started, tells them what to do in plans, writes down what they report,
// gives checkpoints their names, and starts the next generation when a rank is lost.
//
// A gang of ranks lives and dies together: one lost rank ends the generation. The next one goes on from the newest
// checkpoint. What a restart would only meet again (a loss that is not finite, a full disk) ends the run.
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "actors/train/agent_actor.h"
#include "actors/train/run.h"
#include "actors/train/run_folder.h"
#include "actors/train/trainer_actor.h"
#include "runtime/actor/mesh_ref.h"

namespace troupe::train {

struct HeadOptions {
  // More lost generations than this within the window end the run with the first cause.
  int max_restarts = 3;
  std::chrono::nanoseconds window = std::chrono::minutes(10);
  std::chrono::nanoseconds start_deadline = std::chrono::minutes(2);  // for all ranks to come up
  std::chrono::nanoseconds load_deadline = std::chrono::minutes(30);  // to open data, to read a checkpoint
  std::chrono::nanoseconds end_deadline = std::chrono::seconds(30);   // for what is left of a generation to be gone
};

// What a head works on; outlives it.
struct HeadContext {
  const RunSetup& setup;  // with its data
  RunFolder& folder;
  RunObserver& observer;
  RankAssignment assignment;  // but for generation and fingerprints
  std::string config_json;
  int ranks;
  std::string layout = {};  // of several ranks, for people: "pipeline 2 × data 4"
  bool resume;              // from what an earlier run left in the folder
  const Clock& clock;
  HeadOptions options = {};
  TraceFile* trace = nullptr;  // null: none
  std::chrono::nanoseconds trace_origin{};
};

class HeadActor final : public actor::Actor {
 public:
  explicit HeadActor(HeadContext context) : context_(std::move(context)) {}

  // The whole run: to train.steps, or until asked to stop. Errors: as run_training() (run.h); failed, with the first
  // cause, where ranks were lost too often. Asked once, by the launcher.
  actor::Task<Result<RunEnd>> run(actor::Ref<AgentActor> agent);
  // Finish the step, save, end.
  void stop();

  // From rank 0.
  void stepped(MetricsLine line);
  void staged(StagedCheckpoint staged);
  void rank_down(actor::Down down);
  // Of ranks that are processes.
  void traced(TracePiece piece);

  // The ranks of the generation at hand; none between two.
  std::vector<actor::Ref<TrainerActor>> ranks() const { return {gang_.begin(), gang_.end()}; }

  using Protocol = actor::Methods<&HeadActor::stepped, &HeadActor::staged, &HeadActor::traced>;

 private:
  // One generation, from its start to its end. An error without `lost_` would come again.
  actor::Task<Result<PlanReport>> generation();
  template <class Answer>
  Result<Answer> joined(const std::vector<Result<Answer>>& answers);
  // The same of what had a deadline and was asked at `asked`: a rank that took longer is slow, and not lost.
  template <class Answer>
  Result<Answer> in_time(const std::vector<Result<Answer>>& answers, std::chrono::nanoseconds asked,
                         std::string_view what);
  // The step of what was loaded.
  actor::Task<Result<int64_t>> load_newest();
  actor::Task<Result<RankLoaded>> load(const std::string& folder);
  StepPlan next_plan(int64_t completed) const;
  Status announce(const RankReady& ready, int64_t completed);
  Status draw() const;
  RunEnd end_of(const PlanReport& report) const;
  // Something could not be written down: ends the run.
  void give_up(const Error& error);
  // "while the ranks came up", "at step 37".
  std::string when() const;
  // What the generation died of, in one line, as well as anybody knows it.
  std::string loss(const GangEnd& end, const Error& unanswered) const;

  HeadContext context_;
  actor::Ref<AgentActor> agent_;
  actor::MeshRef<TrainerActor> gang_;
  bool stopping_ = false;
  bool other_run_ = false;        // the checkpoint at hand is whole, but another run's
  bool lost_ = false;             // a rank has not answered: another generation may do better
  std::string cause_;             // why the first of them went down, as it looked from here; "": none has
  bool lost_by_link_ = false;     // the rank's host may know better
  bool computing_ = false;        // the ranks of this generation are at a plan
  int64_t last_step_ = 0;         // that rank 0 has told of, or was loaded
  std::optional<Error> failure_;  // of writing down
  std::string saved_;             // the newest checkpoint, which holds last_step_ or an earlier one:
  int64_t saved_step_ = 0;
  std::string title_;
  double started_ = 0;  // seconds
};

}  // namespace troupe::train
