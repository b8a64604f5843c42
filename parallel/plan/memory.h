// What a training step holds in memory, in closed form, by kind. Bytes; one rank.
//
// With P parameters of which Q are operands of products, c bytes a compute element and r bytes a residual
// element (4 and 4 in f32; 2 and 4 in bf16), N = B·T tokens of a microbatch, L layers, D width, q = H·d and
// k = K·d the widths of queries and keys, F hidden width, V vocabulary:
//
//   parameters   4 P (+ 2 Q in bf16)        gradients  4 P        optimizer  8 P
//   activations  N · (L · block  +  the larger of  head + loss  and  backward)
//
// and what is saved for backward, per token and layer, is
//
//   block = 2 r D                   the residual stream before both norms
//         + 2 c D + norm statistics what attention and the feed-forward read
//         + c (2 q + 2 k) + 4 H     queries, keys, values, attention's output; one logsumexp a head
//         + q (in bf16)             the output's eight bits behind bf16's
//         + c F (3 if gated else 2) pre-activations and their product
//   head  = r D + c D + statistics  final norm
//   loss  = c V + c D + 12          logits, which become their own gradient; the gradient of the head's input
//   backward = what the last block holds beside what it saved when it runs backward: r D + c D + c F
//
// Recomputing attention drops its share of a block but the residual stream (c D + c (2 q + 2 k) + 4 H, + q in bf16),
// and holds it again when the feed-forward's is gone. Recomputing blocks leaves r D of each; one whole block is added
// to `backward` while it is run again.
#pragma once
#include <cstdint>

#include "parallel/model/decoder.h"

namespace troupe::parallel {

struct TrainingMemory {
  int64_t parameters = 0, gradients = 0, optimizer = 0, activations = 0;
  int64_t total() const { return parameters + gradients + optimizer + activations; }
};

// Of a microbatch of `batch` sequences of `length` tokens. Scratch memory of products (a few MB at most) and
// the batch itself are not counted. REQUIRES: config is complete.
TrainingMemory training_memory(const DecoderConfig& config, Numerics numerics, int64_t batch, int64_t length,
                               Recompute recompute);

}  // namespace troupe::parallel
