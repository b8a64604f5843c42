#include "actors/serve/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/base/check.h"
#include "runtime/base/random.h"

namespace troupe::serve {
namespace {

void penalise(std::span<float> logits, std::span<const int32_t> seen, double penalty) {
  std::vector<int32_t> once(seen.begin(), seen.end());
  std::sort(once.begin(), once.end());
  once.erase(std::unique(once.begin(), once.end()), once.end());
  for (int32_t token : once) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = static_cast<float>(logit > 0 ? logit / penalty : logit * penalty);
  }
}

}  // namespace

int32_t sample_token(std::span<float> logits, std::span<const int32_t> seen, const SamplingOptions& options,
                     uint64_t draw) {
  if (options.repetition_penalty != 1) penalise(logits, seen, options.repetition_penalty);
  const auto largest = std::max_element(logits.begin(), logits.end(), [](float a, float b) { return !(a >= b); });
  TROUPE_CHECK(std::isfinite(*largest), "no finite logit to sample from");
  if (options.temperature == 0 || options.top_k == 1) return static_cast<int32_t>(largest - logits.begin());

  // Candidates in descending order of probability, ties to the lower id; probabilities relative to the largest.
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  size_t kept = ids.size();
  if (options.top_k > 0) kept = std::min(kept, static_cast<size_t>(options.top_k));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept), ids.end(), before);
  std::vector<double> weights(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    weights[i] = std::exp((static_cast<double>(logits[static_cast<size_t>(ids[i])]) - *largest) / options.temperature);
    total += weights[i];
  }
  if (options.top_p < 1) {
    double sum = 0;
    size_t n = 0;
    while (n < kept && sum < options.top_p * total) sum += weights[n++];
    kept = std::max<size_t>(n, 1);
  }
  if (options.min_p > 0) {
    while (kept > 1 && weights[kept - 1] < options.min_p * weights[0]) --kept;
  }
  total = std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  double left = to_uniform_double(random_u64(options.seed, draw)) * total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    left -= weights[i];
    if (left < 0) return ids[i];
  }
  return ids[kept - 1];
}

}  // namespace troupe::serve
