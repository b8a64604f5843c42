// Choosing the next token from a row of logits.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace troupe::serve {

struct SamplingOptions {
  double temperature = 0.8;       // 0: greedy, the largest logit, ties to the lower id
  int64_t top_k = 0;              // only the k most likely; 0: all
  double top_p = 1;               // only the most likely ones that together reach p (Holtzman et al. 2020)
  double min_p = 0;               // only those at least this share of the most likely one's probability
  double repetition_penalty = 1;  // logits of `seen` tokens: divided if positive, else multiplied (Keskar et al. 2019)
  uint64_t seed = 0;
};

// One token id. `logits` [V] is scratch: it is changed. `seen` are the ids so far, prompt included. The
// draw is keyed by (options.seed, draw): the same call gives the same token.
// The penalty comes first, then temperature, top-k, top-p and min-p, in this order.
// A NaN counts as -∞. Cost: without top-k and top-p, linear in V; with them, what they keep is sorted.
// REQUIRES: at least one finite logit and no +∞; temperature ≥ 0; repetition_penalty > 0.
int32_t sample_token(std::span<float> logits, std::span<const int32_t> seen, const SamplingOptions& options,
                     uint64_t draw);

}  // namespace troupe::serve
