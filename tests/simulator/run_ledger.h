// What really happened in a training run, over all starts of its head: told by the disk, the ranks and the fault plan,
// none of whom ask the head. And what must follow: what counts is what an undisturbed run would have done.
#pragma once
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "actors/train/head_actor.h"
#include "tests/simulator/simulation.h"

namespace troupe::simulator {

// The model of a simulated run, which is a number: after a step on `state`; after all steps up to that one, whatever
// happened on the way; and its loss.
uint64_t next_state(uint64_t state, int64_t step);
uint64_t state_after(int64_t step);
double loss_after(int64_t step);

struct Loss {
  nanoseconds at{0};
  std::string cause;
};

// One start of the program.
struct Start {
  int number = 0;
  int64_t generation = -1;  // the newest that it has begun
  train::HeadOptions options;
  // Of the generation at hand.
  int64_t told = 0;        // the step that rank 0 has told of, or from where it goes on
  bool announced = false;  // it has begun, as the head says
  bool running = false;    // the first plan was given
  // The generations that were lost, as the head has put it down.
  std::vector<Loss> lost;
  bool superseded = false;  // another start has taken the lease
  bool stop_asked = false;
};

// What was done to a generation by the fault plan.
struct Harm {
  int victims = 0;             // processes that were killed or stood still
  std::string first;           // of those: how the head would name it, in part; "": nobody can say
  bool disturbed = false;      // links may have ended without anybody's death
  bool answers_alone = false;  // a rank fails in a way that would come again
};

class RunLedger {
 public:
  RunLedger(Simulation& simulation, int64_t steps) : simulation_(simulation), steps_(steps) {}

  // --- Told by the fault plan.
  Start& begin(train::HeadOptions options);
  Harm& harm(int64_t generation) { return harms_[generation]; }
  // What does not hurt a generation alone: the network, the head.
  void disturbed(nanoseconds until) { disturbed_until_ = std::max(disturbed_until_, until); }
  void disk_is_full() { disk_was_full_ = true; }
  void damaged(int64_t step) { whole_.erase(step); }

  // --- Told by the disk.
  void lease_taken(Start& start, int64_t generation);
  void published(int64_t step, int64_t generation, bool whole);
  void removed(int64_t step) { whole_.erase(step); }
  const std::set<int64_t>& whole() const { return whole_; }
  int64_t lease() const { return lease_; }

  // --- Told by hosts and ranks.
  void gang_begins(Start& start, int64_t generation, int left_of_others);
  void stepped(const Start& start, int64_t generation, int64_t step);  // a rank has done that step
  void plan_given(Start& start, int64_t generation, const train::StepPlan& plan);

  // --- Told by heads, of themselves.
  void started(Start& start, const train::RunStart& run);
  void counted(Start& start, const train::MetricsLine& line);
  void warned(Start& start, const std::string& message);
  void ended(Start& start, const Result<train::RunEnd>& end);

  // The whole run has ended: metrics.jsonl, and every checkpoint.
  void check_metrics(const std::string& text);

 private:
  // The generations that were lost within the window, and a little more, up to the last one.
  static std::span<const Loss> recent(const Start& start, nanoseconds more = nanoseconds(0));
  void check_cause(const Start& start, const std::string& cause);
  void check_failure(Start& start, const std::string& why);
  Simulation& simulation_;
  const int64_t steps_;
  std::vector<std::unique_ptr<Start>> starts_;
  std::map<int64_t, Harm> harms_;
  std::map<int64_t, nanoseconds> begun_;
  std::set<int64_t> published_, whole_;  // checkpoints that were ever given their name; that are there, undamaged
  int64_t lease_ = -1;
  nanoseconds disturbed_until_{-1};
  bool disk_was_full_ = false;
};

}  // namespace troupe::simulator
