#include "parallel/schedule/step_plan.h"

#include <algorithm>
#include <numeric>

#include "runtime/base/check.h"

namespace troupe::parallel {

void Unit::add_expert_exchange(bool balance_loss) {
  const InsideCollective exchange{.operation = OperationKind::all_to_all, .group = Group::expert};
  const InsideCollective gather{.operation = OperationKind::all_gather, .group = Group::expert_tensor};
  const InsideCollective sum{.operation = OperationKind::reduce_scatter, .group = Group::expert_tensor};
  if (balance_loss) inside_forward.push_back({.operation = OperationKind::all_reduce, .group = Group::sequence});
  for (int i = 0; i < 2; ++i) inside_forward.insert(inside_forward.end(), {exchange, gather});  // counts, tokens
  inside_forward.insert(inside_forward.end(), {sum, exchange});
  inside_backward.insert(inside_backward.end(), {exchange, gather, sum, exchange});
}

std::pair<int, int> StepPlan::units_of(int chunk) const {
  const auto at = blocks.begin() + chunk;
  const int first = 1 + std::accumulate(blocks.begin(), at, 0), last = first + *at - 1;
  return {chunk == 0 ? 0 : first, last + 1 == last_unit() ? last_unit() : last};
}

std::vector<Bucket> StepPlan::buckets(int unit) const {
  std::vector<Bucket> all = units[static_cast<size_t>(unit)].buckets;
  if (tied && (unit == 0 || (unit == last_unit() && mesh.pipeline > 1))) all.push_back(*tied);
  return all;
}

std::vector<int> StepPlan::parameters_of(int unit) const {
  if (tied && unit == last_unit() && mesh.pipeline == 1) return {unit, 0};
  return {unit};
}

Status check(const StepPlan& plan) {
  const int layers = static_cast<int>(plan.units.size()) - 2;
  const Status pipeline = plan.training ? check(plan.pipeline(), layers) : check_forward(plan.pipeline(), layers);
  if (!pipeline.ok()) return pipeline;
  if (plan.zero < 0 || plan.zero > 3)
    return usage_error("parallel.zero = {}; nearest valid: {}", plan.zero, std::clamp(plan.zero, 0, 3));
  TROUPE_CHECK(static_cast<int>(plan.blocks.size()) == plan.pipeline().chunks(),
               "{} chunks are {} × {} of the pipeline", plan.blocks.size(), plan.mesh.pipeline, plan.virtual_stages);
  TROUPE_CHECK(*std::ranges::min_element(plan.blocks) >= 1, "a chunk without blocks");
  TROUPE_CHECK(std::accumulate(plan.blocks.begin(), plan.blocks.end(), 0) == layers,
               "chunks do not sum up to {} blocks", layers);
  for (int unit = 0; unit <= plan.last_unit(); ++unit) {
    for (const Bucket& bucket : plan.buckets(unit)) {
      const int size = size_of(bucket.group, plan.mesh);
      TROUPE_CHECK(plan.zero == 0 || bucket.elements % size == 0, "unit {}: {} elements for {} shards", unit,
                   bucket.elements, size);
    }
  }
  return {};
}

}  // namespace troupe::parallel
