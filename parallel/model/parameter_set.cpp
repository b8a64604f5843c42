#include "parallel/model/parameter_set.h"

#include <algorithm>

#include "kernels/ops/global_norm.h"

namespace troupe::parallel {

ParameterSet::ParameterSet(Device& device, Numerics numerics, bool training)
    : alone_(std::make_unique<MeshGroups>()),
      groups_(alone_.get()),
      device_(device),
      numerics_(numerics),
      training_(training) {}

ParameterSet::ParameterSet(MeshGroups& groups, Device& device, Numerics numerics, bool training, int zero_stage)
    : groups_(&groups), device_(device), numerics_(numerics), training_(training), zero_stage_(zero_stage) {}

Parameter& ParameterSet::add(ParameterSpec spec) {
  TROUPE_CHECK(find(spec.name) == nullptr, "two parameters are called {}", spec.name);
  parameters_.push_back(std::make_unique<Parameter>(std::move(spec), mesh(), device_));
  Parameter& parameter = *parameters_.back();
  const Group group = parameter.spec().placement.replicas();
  const DType dtype = parameter.spec().multiplied ? numerics_.compute : kernels::accumulator_of(numerics_.compute);
  const bool tied = parameter.spec().tied, state = parameter.spec().state;
  auto found = std::ranges::find_if(buckets_, [&](const UnitBucket& b) {
    return b.unit == unit_ && b.tied == tied && b.state == state && b.bucket->group() == group &&
           b.bucket->dtype() == dtype && !b.bucket->allocated();
  });
  if (found == buckets_.end()) {
    buckets_.push_back({unit_, tied, state,
                        std::make_unique<ParameterBucket>(group, (*groups_)[group], zero_stage_, device_, numerics_,
                                                          dtype, training_ && !state)});
    found = buckets_.end() - 1;
  }
  found->bucket->add(parameter);
  return parameter;
}

ParameterSet ParameterSet::without_storage(Device& device) {
  ParameterSet set(device, Numerics(), false);
  set.storage_ = false;
  return set;
}

void ParameterSet::allocate() {
  if (!storage_) return;
  for (const UnitBucket& b : buckets_) {
    if (!b.bucket->allocated()) b.bucket->allocate();
  }
}

Parameter* ParameterSet::find(std::string_view name) const {
  for (const auto& parameter : parameters_) {
    if (parameter->name() == name) return parameter.get();
  }
  return nullptr;
}

std::vector<Parameter*> ParameterSet::all() const {
  std::vector<Parameter*> result;
  for (const auto& parameter : parameters_) result.push_back(parameter.get());
  return result;
}

std::vector<ParameterBucket*> ParameterSet::buckets(std::optional<int> unit) const {
  std::vector<ParameterBucket*> result;
  for (const bool tied : {false, true}) {
    for (const UnitBucket& b : buckets_) {
      if (!b.state && b.tied == tied && (!unit || b.unit == *unit)) result.push_back(b.bucket.get());
    }
  }
  return result;
}

void ParameterSet::complete_gradients() {
  for (const UnitBucket& b : buckets_) b.bucket->complete_gradients();
}

double ParameterSet::squared_gradient_norm() const {
  double sum = 0;
  for (const UnitBucket& b : buckets_) {
    const bool elsewhere = b.tied && mesh().rank(Axis::pipeline) > 0;
    if (b.state) continue;
    if (b.bucket->counts_piece() && !elsewhere) sum += kernels::sum_of_squares(b.bucket->gradients());
  }
  return sum;
}

int64_t ParameterSet::global_elements() const {
  int64_t total = 0;
  for (const auto& parameter : parameters_) {
    if (!parameter->spec().state) total += parameter->global_elements();
  }
  return total;
}

}  // namespace troupe::parallel
