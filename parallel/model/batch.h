// Batch: what a forward pass reads beside the parameters.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "kernels/ops/rope.h"
#include "parallel/model/context_parallel.h"
#include "parallel/model/routing.h"

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
  kernels::Tensor tokens;           // i32 [B, T]
  int64_t length = 0;               // of the whole sequence, where T is a part of it; positions are below. 0: T
  kernels::Tensor positions;        // i32 [B, T]: of each token in its document
  kernels::Tensor shard_positions;  // i32 [B, n]: of the tokens that this tensor rank has between layers
  // i32 [B, n]: their indices in the whole sequence, which key dropout and routing; negative: padding, which is no
  // token to a router. Undefined: shard_positions
  kernels::Tensor shard_indices;
  // i32 [B, T]: first index that the token may attend to (packed documents); undefined: 0
  kernels::Tensor first_visible;
  kernels::Tensor labels;        // i32 [B, T], already shifted; negative: no target. Undefined in generation.
  kernels::Tensor sequence_ids;  // i64 [B]: place of each sequence in the data order, keys dropout
  uint64_t seed = 0, step = 0;   // key dropout
  bool training = false;         // dropout and label smoothing are on
  float label_smoothing = 0;
  // Of the whole global batch, padding apart: what losses of routers are divided by. Set where there are any.
  int64_t sequences_in_step = 0, tokens_in_step = 0;
  std::optional<ContextExchange> context_exchange;  // none: as context_exchange_for() has it
  std::shared_ptr<const Routing> replayed;          // the experts to go to, instead of those that routers would choose
  std::shared_ptr<Routing> recorded;                // told what they choose
  KvCache* cache = nullptr;                         // generation: tokens follow cache->length earlier ones
  std::shared_ptr<const kernels::RopeTable> rope;   // filled in by the decoder
  std::shared_ptr<RouterFindings> router;           // likewise
};

}  // namespace troupe::parallel
