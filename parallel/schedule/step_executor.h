// Carries a rank's program (instructions.h) out on tensors: tapes, messages, buckets.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "parallel/model/decoder.h"
#include "parallel/schedule/instructions.h"

namespace troupe::parallel {

// What a step has found, over all ranks.
struct StepTotals {
  double loss = 0;          // summed over the targets, nats
  double squared_norm = 0;  // of the gradients, every parameter once
  // Of routers, apart from `loss`, summed over layers; entropies of experts' loads (load_entropy()) likewise.
  double balance_loss = 0, z_loss = 0, load_entropy = 0;
  int64_t not_finite = 0;  // ranks that found a loss that is not finite
  bool finite() const { return not_finite == 0; }
};

class StepExecutor {
 public:
  // What it asks of its owner while a program runs.
  class Work {
   public:
    virtual ~Work() = default;
    virtual Batch batch(int microbatch) = 0;
    // The loss's weight: one over the targets of the whole step.
    virtual double weight() const = 0;
    // Everything is summed; true: `updates` are made.
    virtual bool totals(const StepTotals& totals) = 0;
    virtual void update(ParameterBucket& bucket) = 0;
    // What is begun now: "forward", "backward", "gradient sums", "totals", "optimizer"….
    virtual void doing(const char* what) = 0;
  };

  // `chunks`: this rank's parts of the model, one a virtual stage. All outlive the executor.
  StepExecutor(std::span<Decoder* const> chunks, ParameterSet& parameters, Recompute recompute);

  // Throws CommunicationError.
  void run(const StepPlan& plan, const Program& program, Work& work);
  // Told of every operation and of gradients; empty: nobody.
  void observe(kernels::Tape::Observer observer) { observer_ = std::move(observer); }
  // Of the last step: by layer of this stage, how many tokens chose each expert, over all ranks and microbatches.
  std::map<int, std::vector<int64_t>> expert_loads() const;

 private:
  // One unit of a microbatch between its forward and its backward.
  struct UnitRun {
    std::unique_ptr<Tape> tape;
    Value input, output;
  };
  // A microbatch in one of the chunks.
  struct Flight {
    Batch batch;
    Tensor arrived, leaving;            // activations from the chunk before, to the one behind
    Tensor gradient_arrived, gradient;  // of the output that left; of the unit that runs backward next
    std::map<int, UnitRun> units;
  };

  Flight& flight(const Instruction& i) { return flights_[{i.microbatch, i.virtual_stage}]; }
  void land(const Instruction& i);
  Tensor local_loads() const;
  void set_loads(const Tensor& all);
  MixtureOfExperts* experts(int unit) const;
  Tensor local_totals(bool training) const;
  void complete_gradients();
  void observe_gradients(const ParameterBucket& of) const;
  void forward(const Instruction& i, const StepPlan& plan, Work& work);
  void backward(const Instruction& i, const StepPlan& plan, Work& work);
  void start(const Instruction& i, const StepPlan& plan);
  void finish(const Instruction& i, Work& work);
  ParameterBucket& bucket(const Instruction& i) const;

  std::vector<Decoder*> chunks_;
  ParameterSet& parameters_;
  Recompute recompute_;
  kernels::Tape::Observer observer_;
  std::map<std::pair<int, int>, Flight> flights_;
  struct UnderWay {
    Instruction instruction;
    Pending pending;
    Tensor tensor;
  };
  std::vector<UnderWay> under_way_;
  double loss_ = 0;
  RouterFindings found_;  // of the microbatches that have landed
  bool not_finite_ = false, updates_ = true;
};

}  // namespace troupe::parallel
