// ParameterBucket: parameters of one unit of a model that the same ranks hold, in one dtype, side by side in flat
// storage: what is gathered, reduced and updated at once, without copies.
//
// ZeRO (Rajbhandari et al. 2020) divides a bucket among its R replicas: each keeps one piece of `elements / R`
// elements, padded.
//
//   stage   one of R replicas keeps, of P elements                       what moves in a step of M microbatches
//   0       all of it                                                    gradients all-reduced once
//   1       1/R of the optimizer's state and of separate masters         gradients reduce-scattered once, values
//   gathered once 2       also 1/R of the gradients; whole ones only until reduced     gradients reduce-scattered M
//   times, values gathered once 3       also 1/R of the values; whole ones only while used           the same, values
//   gathered before each use
//
// A bucket that only one rank holds is as under stage 0, whatever the stage.
#pragma once
#include <span>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/model/parameter.h"

namespace troupe::parallel {

class ParameterBucket {
 public:
  // `replicas` outlives the bucket.
  ParameterBucket(Group group, Communicator& replicas, int zero_stage, Device& device, Numerics numerics, DType dtype,
                  bool training);

  // REQUIRES: before allocate().
  void add(Parameter& parameter);
  void allocate();
  bool allocated() const { return allocated_; }

  Group group() const { return group_; }
  bool tied() const { return parameters_.front()->spec().tied; }
  DType dtype() const { return dtype_; }  // of what is computed with
  bool training() const { return training_; }
  std::span<Parameter* const> parameters() const { return parameters_; }
  int zero_stage() const { return stage_; }
  int64_t elements() const { return ranks_ * piece_; }  // padding included
  // This rank's piece: [piece_begin(), piece_begin() + piece()) of the bucket; all of it under stage 0.
  int64_t piece() const { return piece_; }
  int64_t piece_begin() const { return rank_ * piece_; }
  // Whether this rank counts the piece where something is summed over all ranks: one of its holders does.
  bool counts_piece() const { return counts_; }

  // Of the piece. Masters in accumulator_of(dtype()); they are the values themselves where that is the dtype, and
  // without training.
  const Tensor& masters() const { return masters_; }
  // The sum over all microbatches and replicas, once reduced.
  const Tensor& gradients() const { return gradient_piece_; }
  // Values that the update of masters() has to refresh, or undefined: they are the same, or none are kept.
  Tensor separate_values() const;

  // After masters() were written other than by the optimizer. Called by all replicas.
  void masters_changed();

  // Stage 3: whole values. start_gather() makes room and begins to fill it; the values are there once it is waited for.
  // Stages 1, 2: brings everybody's updated pieces together.
  Pending start_gather();
  bool whole() const { return values_.defined(); }
  void release();

  // Sums gradients over replicas: stages 0 and 1 once, 2 and 3 after each microbatch, which adds to gradients().
  // A parameter without a gradient counts as zero.
  Pending start_reduction();
  void finish_reduction(Pending& pending);
  // Where there is nothing to reduce: parameters without a gradient count as zero.
  void complete_gradients();
  // Before the first microbatch of a step.
  void forget_gradients();

  // A part of a parameter that stands in this rank's piece: elements [begin, end) of the piece.
  struct Segment {
    Parameter* parameter;
    int64_t begin, end;
    int64_t at;  // of the parameter's local elements, where it begins
  };
  std::vector<Segment> segments() const;

 private:
  friend class Parameter;
  bool divided() const { return stage_ > 0; }
  void make_values();
  void make_gradients();
  Tensor piece_of(const Tensor& flat) const { return flat.slice(rank_ * piece_, (rank_ + 1) * piece_); }
  void show(Tensor Parameter::* view, const Tensor& flat);

  Group group_;
  Communicator& replicas_;
  int stage_;
  Device& device_;
  DType dtype_, accumulator_;
  bool training_, counts_;
  bool allocated_ = false;
  int64_t ranks_, rank_, piece_ = 0, used_ = 0;
  std::vector<Parameter*> parameters_;
  Tensor values_, masters_, gradients_, gradient_piece_, reduced_;
  bool reduced_once_ = false;  // stages 2, 3: gradient_piece_ holds something
};

}  // namespace troupe::parallel
