// What a training step holds in memory, in closed form, by kind. Bytes of one rank, on any layout.
//
// One rank. With P parameters of which Q are operands of products, c bytes a compute element and r bytes a residual
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
//
// What each parallelism divides:
//
//   tensor t     matrices, q, F and V by t, K heads by the smaller of t and K (more ranks than heads share them);
//   norms'
//                weights, router and output biases are whole on each. Sequence parallel: what belongs to the residual
//                stream (r D, c D, statistics, router) is of N/t tokens. What is gathered from the t shards where a
//                product reads it is not kept. While backward runs a block: its output's gradient, gathered (c D N,
//                twice that of several sequences, which are put in order), and its input's gradient before ranks' parts
//                are summed (4 D N: sums are wide).
//   context c    N = B·T/c. Keys and values go round the ring: two blocks on the way, and their gradients.
//   pipeline p   the layers of its chunks; the embedding (and positions) on the first stage, final norm and head on the
//                last; a tied table on both. Live passes: peak_live_passes() of schedule.h, each of one chunk. Logits
//                are of one microbatch, of all under gpipe. A chunk's output is kept with it; one more microbatch's
//                input and gradient are on their way in, one gradient on its way out.
//   ZeRO         state.h's parameters among their R replicas, each bucket padded to a multiple of R: 1 shards moments
//                and master (what products read, or the master itself where that is the same, stays whole); 2 also
//                gradients, which are whole for two neighbouring units at a time; 3 also what is computed with, which
//                is whole for two neighbouring units at a time (one in use, the next on its way).
//   expert e×u   experts by e, their hidden units by u. A token's k rows: dispatched inputs, hidden units and outputs
//                are kept. Load is taken as even.
//
// Buffers are what a reduction writes before it is added to a shard, and the batch's own numbers.
#pragma once
#include <cstdint>
#include <span>

#include "parallel/plan/state.h"

namespace troupe::parallel {

struct TrainingMemory {
  int64_t parameters = 0, gradients = 0, optimizer = 0, activations = 0;
  int64_t buffers = 0;
  int64_t total() const { return parameters + gradients + optimizer + activations + buffers; }
};

// Of a rank of that stage. Scratch memory of products (a few MB at most) is not counted. REQUIRES: config is complete;
// the layout is valid for config and shape, kv_sharing included.
TrainingMemory training_memory(const DecoderConfig& config, Numerics numerics, const Layout& layout,
                               const StepShape& shape, Recompute recompute, int stage);
// The same, with all stages at hand: stage_layers().
TrainingMemory training_memory(const DecoderConfig& config, Numerics numerics, const Layout& layout,
                               const StepShape& shape, Recompute recompute, std::span<const StageLayers> stages,
                               int stage);
// Of one rank alone, and a microbatch of `batch` sequences of `length` tokens.
TrainingMemory training_memory(const DecoderConfig& config, Numerics numerics, int64_t batch, int64_t length,
                               Recompute recompute);

}  // namespace troupe::parallel
