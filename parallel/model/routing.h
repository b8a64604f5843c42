// What routers decide and find while a batch runs through the model.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "kernels/tensor/tensor.h"

namespace troupe::parallel {

struct Batch;

// The experts of every token, by layer and sequence, whatever the layout: recorded by the ranks that have the tokens,
// and replayed instead of choosing, on any other layout.
class Routing {
 public:
  // Of this rank's tokens. experts i32 [B, n, k]. A token's index in its sequence is batch.shard_indices. margin: how
  // far the scores of the last that was chosen and the first that was not lay apart, where they were closest.
  void record(int layer, const Batch& batch, const kernels::Tensor& experts, double margin);
  // [B, n, k]; -1 for padding. Errors: a CheckFailure for a token that was not recorded.
  kernels::Tensor replay(int layer, const Batch& batch, int64_t per_token, kernels::Device& device) const;
  // What ranks of one mesh have recorded, together.
  void add(const Routing& other);
  bool empty() const { return experts_.empty(); }
  // Of all that was recorded: where it is smaller than rounding, another layout may choose otherwise.
  double margin() const { return margin_; }

 private:
  using Key = std::pair<int, int64_t>;                              // layer, sequence
  std::map<Key, std::map<int32_t, std::vector<int32_t>>> experts_;  // by the token's index
  double margin_ = std::numeric_limits<double>::infinity();
};

// Of one microbatch, or of a step, on one rank; by layer. A block that is run again finds its choice here.
struct RouterFindings {
  struct Layer {
    kernels::Tensor experts;     // i32 [B, n, k], of one microbatch
    std::vector<int64_t> loads;  // [E]: tokens that chose each expert
    // Shares of the step's losses; their sum over all ranks and microbatches is the loss.
    double balance_loss = 0, z_loss = 0;
  };
  std::map<int, Layer> layers;

  // Loads and losses.
  void add(const RouterFindings& other);
};

// Entropy of the loads, divided by log E: 1 when all experts have as many tokens, 0 when one has all. 0 without tokens.
double load_entropy(const std::vector<int64_t>& loads);

}  // namespace troupe::parallel
