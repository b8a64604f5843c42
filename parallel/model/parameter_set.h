// ParameterSet: the parameters of a model, or of the parts of it that one rank of a mesh has, in the order in which
// they were built. They belong to units (a block, an end of the model), whose parameters are used, gathered and reduced
// together, in buckets.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "parallel/mesh/mesh_groups.h"
#include "parallel/model/parameter_bucket.h"

namespace troupe::parallel {

class ParameterSet {
 public:
  // Of one rank alone.
  ParameterSet(Device& device, Numerics numerics, bool training);
  // Names and shapes alone, of one rank.
  static ParameterSet without_storage(Device& device);
  // Of a rank of a mesh; `groups` outlives the set.
  ParameterSet(MeshGroups& groups, Device& device, Numerics numerics, bool training, int zero_stage = 0);

  // Parameters that are added from now on are those of a unit with this number (0 until then).
  void set_unit(int unit) { unit_ = unit; }
  // REQUIRES: no other of that name. Has no storage before allocate().
  Parameter& add(ParameterSpec spec);
  // Gives the parameters their storage, in the order of units; what was there before stays.
  void allocate();

  Parameter* find(std::string_view name) const;
  std::vector<Parameter*> all() const;
  // Those of a unit, or all, in the order in which they were begun; but for what is state (ParameterSpec).
  std::vector<ParameterBucket*> buckets(std::optional<int> unit = {}) const;
  int64_t global_elements() const;  // but for what is state

  // Once all that is reduced is: parameters without a gradient count as zero where no other rank holds them.
  void complete_gradients();
  // This rank's share of the squared norm of all gradients: over all ranks every parameter is counted once, whatever is
  // replicated, divided or tied. In f64.
  double squared_gradient_norm() const;

  const Mesh& mesh() const { return groups_->mesh(); }
  MeshGroups& groups() const { return *groups_; }
  Device& device() const { return device_; }
  Numerics numerics() const { return numerics_; }
  bool training() const { return training_; }

 private:
  struct UnitBucket {
    int unit;
    bool tied;   // a tied table has a bucket of its own
    bool state;  // and so has what is not trained
    std::unique_ptr<ParameterBucket> bucket;
  };

  std::unique_ptr<MeshGroups> alone_;  // null: somebody else's
  MeshGroups* groups_;
  Device& device_;
  Numerics numerics_;
  bool training_;
  int zero_stage_ = 0;
  int unit_ = 0;
  bool storage_ = true;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<UnitBucket> buckets_;
};

}  // namespace troupe::parallel
