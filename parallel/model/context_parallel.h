// Context parallelism: attention over sequences that the ranks of the context axis divide.
//
// A sequence of T tokens is cut into 2c equal pieces; context rank r of c has pieces r and 2c − 1 − r, in this order
// (zigzag). A causal query sees the keys before it, so a rank's two pieces together see as many as those of any other:
// the work is balanced, where pieces in plain order would leave the first ranks idle.   Brandon et al. 2023, Striped
// Attention, for why; the zigzag order is that of Llama 3 (Grattafiori et al. 2024, section 3.3.2).
//
// Two ways for queries to meet the keys of others, with the same result up to rounding:
//
//   ring    Keys and values travel from rank to rank while those that came before are computed with; outputs are joined
//           by their statistics. Backward they travel again, with their gradients behind them. Memory O(T / c).
//           Liu et al. 2023, Ring Attention with Blockwise Transformers.
//   gather  All ranks get all keys and values, once; backward gives gradients back by a reduce-scatter. No rank waits
//           for the slowest in every one of c turns, which pays where the visible scores are not divided evenly turn by
//           turn: windows, packed documents. Memory O(T), of keys and values alone, while one layer runs.
//           Grattafiori et al. 2024, the same section.
#pragma once
#include "kernels/ops/attention.h"
#include "parallel/comm/communicator.h"

namespace troupe::parallel {

enum class ContextExchange : uint8_t { ring, gather };

// The way that is taken unless one is asked for: ring for causal attention to all that came before, else gather.
ContextExchange context_exchange_for(const kernels::AttentionOptions& options);

// q [B, T/c, H, d], k, v [B, T/c, K, d]: this rank's two pieces. Returns [B, T/c, H, d]. In options, query_offset,
// query_offsets and keys are not to be given; first_visible [B, T/c] counts in the whole sequence. A
// sequence may be padded behind its end as long as attention is causal.
kernels::Value context_attention(kernels::Tape&, Communicator& context, ContextExchange, const kernels::Value& q,
                                 const kernels::Value& k, const kernels::Value& v,
                                 const kernels::AttentionOptions& options);

}  // namespace troupe::parallel
