#include "actors/serve/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

struct Candidate {
  double weight;  // its probability over the most likely one's
  int32_t id;
};

// In descending order of probability, ties to the lower id.
bool before(const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

double total_weight(std::span<const Candidate> candidates) {
  return std::accumulate(candidates.begin(), candidates.end(), 0.0,
                         [](double sum, const Candidate& c) { return sum + c.weight; });
}

void keep_top_k(std::vector<Candidate>& candidates, size_t k) {
  if (k >= candidates.size()) return;
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(k), candidates.end(), before);
  candidates.resize(k);
}

// Few are kept as a rule: sorts no more of the vocabulary than it turns out to need, in rounds.
void keep_top_p(std::vector<Candidate>& candidates, double p) {
  const double wanted = p * total_weight(candidates);
  double sum = 0;
  size_t n = 0;
  for (size_t sorted = 0; n < candidates.size() && (sum < wanted || n == 0);) {
    const size_t until = std::min(candidates.size(), std::max<size_t>(256, 4 * sorted));
    std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates.begin() + static_cast<std::ptrdiff_t>(until), candidates.end(), before);
    sorted = until;
    while (n < sorted && (sum < wanted || n == 0)) sum += candidates[n++].weight;
  }
  candidates.resize(n);
}

}  // namespace

int32_t sample_token(std::span<float> logits, std::span<const int32_t> seen, const SamplingOptions& options,
                     uint64_t draw) {
  for (float& logit : logits) {
    if (std::isnan(logit)) logit = -std::numeric_limits<float>::infinity();
  }
  if (options.repetition_penalty != 1) penalise(logits, seen, options.repetition_penalty);
  const auto largest = std::max_element(logits.begin(), logits.end());
  TROUPE_CHECK(largest != logits.end() && std::isfinite(*largest), "no finite logit to sample from");
  if (options.temperature == 0 || options.top_k == 1) return static_cast<int32_t>(largest - logits.begin());

  std::vector<Candidate> candidates;  // those of probability 0 never
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp((static_cast<double>(logits[i]) - *largest) / options.temperature);
    if (weight > 0) candidates.push_back({weight, static_cast<int32_t>(i)});
  }
  if (options.top_k > 0) keep_top_k(candidates, static_cast<size_t>(options.top_k));
  if (options.top_p < 1) keep_top_p(candidates, options.top_p);
  if (options.min_p > 0) {
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < std::min(options.min_p, 1.0); });
  }
  double left = to_uniform_double(random_u64(options.seed, draw)) * total_weight(candidates);
  for (const Candidate& c : candidates) {
    left -= c.weight;
    if (left < 0) return c.id;
  }
  return candidates.back().id;
}

}  // namespace troupe::serve
