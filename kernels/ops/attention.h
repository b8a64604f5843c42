// Scaled dot-product attention, softmax(q kᵀ · scale) v, in blocks: no array of T × S ever exists.
// Dao et al. 2022 (FlashAttention), algorithms 1 and 4; Milakov & Gimelshein 2018 for the running softmax.
// A query row's result depends on its own q and on the keys it sees, and on nothing else: keys are walked
// in blocks of kAttentionKeyBlock counted from key 0, in ascending order, whatever T, B, the offsets or
// the threads. So decoding one token over a KV cache gives the bits of the same row of a full prefill.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

constexpr int64_t kAttentionKeyBlock = 64;

// Which keys a query sees, and how scores are made. Query row t of sequence b stands at position
// p = offset + t among the keys, where offset is query_offsets[b] if given, else query_offset.
struct AttentionOptions {
  float scale = 0;     // 0: 1 / sqrt(d); else > 0
  bool causal = true;  // sees keys j ≤ p
  int64_t window = 0;  // 0: all; else only keys j > p - window. REQUIRES causal
  float softcap = 0;   // 0: none; else scores become softcap · tanh(score / softcap) (Gemma 2, section 2)
  int64_t query_offset = 0;
  Tensor query_offsets = {};  // i32 [B], or undefined: sequences of different lengths that decode together
  Tensor first_visible = {};  // i32 [B, T], or undefined: sees only keys j ≥ this (packed documents)
  // Rows of k and v that hold keys; the rest of a KV cache is never read. 0: all of dimension 1, or
  // query_offsets[b] + T where those are given.
  int64_t keys = 0;
};

// q [B, T, H, d]; k, v [B, S, K, d] with K a divisor of H: query head h reads key head h / (H / K). All of
// one dtype (f64, f32, bf16). Returns [B, T, H, d] of that dtype; scores and sums in f32 (f64 for f64).
// A row that sees no key gives zeros. Keeps q, k, v, the output and AttentionStatistics for backward;
// keeps nothing and allocates no statistics if no input wants a gradient.
// q, k and v must be finite in every row that is read: a hidden key's NaN is not hidden.
Value attention(Tape&, const Value& q, const Value& k, const Value& v, const AttentionOptions& options = {});

// Scores that are not masked, over all sequences and query heads: one costs 4·d FLOPs forward and 10·d
// backward (Dao et al. count the same). Reads the options' tensors on the host.
int64_t visible_scores(const Tensor& q, const Tensor& k, const AttentionOptions& options);

// What backward needs beside the operands and the output.
struct AttentionStatistics {
  // [B, K, T, H/K] in accumulator_of(dtype): the natural logarithm of the sum of a row's exponentials,
  // -inf for a row that sees no key.
  Tensor lse;
  // u8 [B, T, H, d], for bf16 alone: the eight bits of each output behind those that bf16 holds. Backward
  // subtracts rowsum(d_o ∘ o) from every score's gradient; with o rounded to bf16 those would not sum to zero
  // over a row, as softmax has it, and the gradient of a key bias (zero in theory) would be three times as far off.
  Tensor o_low;

  static AttentionStatistics empty(Device&, const Tensor& q, const Tensor& k);
};

struct AttentionKernels {
  // Writes o [B, T, H, d] and, unless null, the statistics.
  void (*forward)(Device&, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions&, Tensor& o,
                  AttentionStatistics*);
  // Writes (=) the gradients that are not null, of the shapes of q, k and v. The same bits for any
  // number of threads.
  void (*backward)(Device&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                   const AttentionStatistics&, const Tensor& d_o, const AttentionOptions&, Tensor* dq, Tensor* dk,
                   Tensor* dv);

  // Attention to keys that lie apart is made of parts. The sums over what was seen before, `sum` [B, T, H, d] and `lse`
  // (shapes and dtype as AttentionStatistics::lse), become those with the keys of one more part, whose output and
  // statistics forward() wrote. In the beginning: zeros and -inf. backward() of a part, given the output and the
  // statistics of the whole, gives the part's gradients: those of q are to be added up.
  void (*join)(Device&, const Tensor& o, const AttentionStatistics&, Tensor& sum, Tensor& lse);
  // The output, and what backward wants of it, from the sums over all parts.
  void (*round)(Device&, const Tensor& sum, Tensor& o, Tensor& o_low);
};

}  // namespace troupe::kernels
