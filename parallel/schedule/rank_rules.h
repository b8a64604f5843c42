// What one rank's list must hold to, whatever the others do: nothing is used before it is there, nothing is done twice,
// nothing is left out. The simulator asks before it takes each instruction.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "parallel/schedule/step_plan.h"

namespace troupe::parallel {

class RankRules {
 public:
  // `plan` outlives the rules. REQUIRES: check(plan) succeeds.
  RankRules(const StepPlan& plan, int rank);

  // Does what comes next in the list. Returns why it must not be done here; "": it may.
  std::string take(const Instruction& instruction);
  // What is missing after the last instruction; "": nothing.
  std::string missing() const;

  // Passes forward whose backward has not ended, and the most of them at once.
  int live_passes() const { return live_; }
  int peak_live_passes() const { return peak_; }

 private:
  // One microbatch in one chunk. Units count from the side on which the pass begins.
  struct PassState {
    int forward = 0, inputs = 0, weights = 0;   // units that have run
    bool activation = false, gradient = false;  // received
    bool sent_activation = false, sent_gradient = false;
  };
  struct BucketState {
    bool whole = false;  // gathered
    int reduced = 0;     // times, finished
  };
  struct UnitState {
    int microbatches = 0;  // whose gradients of weights are in the sum, all of them in ascending order
    bool updated = false;
    std::vector<BucketState> buckets;
  };

  std::string take_forward(const Instruction&);
  std::string take_backward(const Instruction&);
  std::string take_message(const Instruction&);
  std::string take_gather(const Instruction&);
  std::string take_release(const Instruction&);
  std::string take_reduction(const Instruction&);
  std::string take_sum(const Instruction&);
  std::string take_update(const Instruction&);

  std::string not_here(const Instruction&) const;  // numbers that name nothing of this rank
  std::string not_whole(int unit) const;           // ZeRO 3
  std::string gradients_missing() const;
  bool all_forward() const;
  int chunk_of(const Instruction& i) const { return pipeline_.chunk(stage_, i.virtual_stage); }
  PassState& pass_of(const Instruction& i) {
    return passes_[static_cast<size_t>(i.virtual_stage * plan_.microbatches + i.microbatch)];
  }
  bool alone(const Bucket& bucket) const { return size_of(bucket.group, plan_.mesh) == 1; }
  bool under_way(Action action, int unit) const;

  const StepPlan& plan_;
  const Pipeline pipeline_;
  const int stage_;
  std::vector<PassState> passes_;
  std::map<int, UnitState> units_;  // of this rank
  std::vector<Instruction> started_;
  Instruction previous_;                                // but for those inside
  bool ties_ = false, loads_ = false, totals_ = false;  // summed, or there is nothing to
  int live_ = 0, peak_ = 0;
};

}  // namespace troupe::parallel
