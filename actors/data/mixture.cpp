#include "actors/data/mixture.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "runtime/base/check.h"

namespace troupe::data {
namespace {

constexpr size_t kMostDatasets = 4096;

// Largest remainders; at least one slot each.
std::vector<int64_t> slots_of(std::span<const double> weights) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  std::vector<int64_t> slots;
  std::vector<double> exact;
  int64_t left = Mixture::kPeriod;
  for (const double weight : weights) {
    exact.push_back(weight / sum * static_cast<double>(Mixture::kPeriod));
    slots.push_back(std::max(int64_t{1}, static_cast<int64_t>(exact.back())));
    left -= slots.back();
  }
  for (; left != 0; left += left > 0 ? -1 : 1) {
    // The one that is furthest from its share, on the side that needs mending.
    size_t best = slots.size();
    double most = 0;
    for (size_t d = 0; d < slots.size(); ++d) {
      if (left < 0 && slots[d] == 1) continue;
      const double gap = (exact[d] - static_cast<double>(slots[d])) * (left > 0 ? 1 : -1);
      if (best == slots.size() || gap > most) {
        best = d;
        most = gap;
      }
    }
    slots[best] += left > 0 ? 1 : -1;
  }
  return slots;
}

}  // namespace

Result<Mixture> Mixture::create(std::span<const double> weights) {
  TROUPE_CHECK(!weights.empty());
  if (weights.size() > kMostDatasets) {
    return usage_error("a mixture of {} datasets; the most is {}", weights.size(), kMostDatasets);
  }
  for (const double weight : weights) {
    if (!(weight > 0) || !std::isfinite(weight))
      return usage_error("mixture weight {} is not a positive number", weight);
  }
  Mixture mixture;
  if (weights.size() == 1) {
    mixture.slots_ = {kPeriod};
    return mixture;
  }
  mixture.slots_ = slots_of(weights);
  // The k-th sequence of a dataset with n slots may come from slot ⌊k·P/n⌋ on and must come before slot
  // ⌈(k+1)·P/n⌉. Serving the earliest deadline among those that may come meets all deadlines.
  struct Job {
    int64_t time;
    int32_t dataset;
    bool operator>(const Job& other) const { return time != other.time ? time > other.time : dataset > other.dataset; }
  };
  using Queue = std::priority_queue<Job, std::vector<Job>, std::greater<Job>>;
  Queue waiting;  // by the slot from which they may come
  Queue ready;    // by deadline
  std::vector<int64_t> served(weights.size(), 0);
  for (size_t d = 0; d < weights.size(); ++d) waiting.push({0, static_cast<int32_t>(d)});
  for (int64_t slot = 0; slot < kPeriod; ++slot) {
    while (!waiting.empty() && waiting.top().time <= slot) {
      const int32_t dataset = waiting.top().dataset;
      const auto d = static_cast<size_t>(dataset);
      waiting.pop();
      const int64_t n = mixture.slots_[d];
      ready.push({((served[d] + 1) * kPeriod + n - 1) / n, dataset});
    }
    TROUPE_CHECK(!ready.empty() && ready.top().time > slot);
    const int32_t dataset = ready.top().dataset;
    const auto d = static_cast<size_t>(dataset);
    ready.pop();
    mixture.dataset_.push_back(static_cast<uint16_t>(dataset));
    mixture.before_.push_back(static_cast<uint32_t>(served[d]));
    ++served[d];
    if (served[d] < mixture.slots_[d]) waiting.push({served[d] * kPeriod / mixture.slots_[d], dataset});
  }
  return mixture;
}

Mixture::Turn Mixture::turn(int64_t sequence) const {
  TROUPE_CHECK(sequence >= 0);
  if (dataset_.empty()) return {0, sequence};
  const auto slot = static_cast<size_t>(sequence % kPeriod);
  const int32_t dataset = dataset_[slot];
  return {dataset, sequence / kPeriod * slots(dataset) + before_[slot]};
}

}  // namespace troupe::data
