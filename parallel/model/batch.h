// Batch: what a forward pass reads beside the parameters.
#pragma once
#include <vector>

#include "kernels/ops/rope.h"

namespace troupe::parallel {

// Keys and values of the tokens seen so far, for generation: per layer [B, capacity, K, d], compute dtype.
struct KvCache {
  struct Layer {
    kernels::Tensor keys, values;
  };
  std::vector<Layer> layers;
  int64_t capacity = 0;
  int64_t length = 0;  // valid tokens; forward() writes behind them, the caller then advances
};

struct Batch {
  kernels::Tensor tokens;     // i32 [B, T]
  kernels::Tensor positions;  // i32 [B, T]: of each token in its sequence
  kernels::Tensor
      first_visible;       // i32 [B, T]: first index that the token may attend to (packed documents); undefined: 0
  kernels::Tensor labels;  // i32 [B, T], already shifted; negative: no target. Undefined in generation.
  kernels::Tensor sequence_ids;  // i64 [B]: place of each sequence in the data order, keys dropout
  uint64_t seed = 0, step = 0;   // key dropout
  bool training = false;         // dropout and label smoothing are on
  float label_smoothing = 0;
  KvCache* cache = nullptr;                        // generation: tokens follow cache->length earlier ones
  std::shared_ptr<const kernels::RopeTable> rope;  // filled in by the decoder
};

}  // namespace troupe::parallel
