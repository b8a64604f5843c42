// One attention call on the CPU, in plain numbers: sizes, pointers, and which keys a query row sees.
// Rows of a key head are numbered r = t · G + g (position t, query head k · G + g, G = H / K), so that
// neighbouring rows see nearly the same keys and share every key they load.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/ops/attention.h"

namespace troupe::kernels::cpu {

struct AttentionJob {
  int64_t B, T, H, K, G, d;
  int64_t capacity;  // dimension 1 of k and v
  double scale, softcap;
  bool causal;
  int64_t window, query_offset, keys;
  const int32_t* query_offsets;  // [B] or null
  const int32_t* first_visible;  // [B, T] or null
  const void *q, *k, *v;
  void* o;
  void* lse;       // null: not wanted
  uint8_t* o_low;  // null: not wanted, or not bf16
  // Backward only; a gradient that is not wanted is null.
  const void* d_o;
  void *dq, *dk, *dv;
  // The fast path's copy of the keys and values in another arrangement, for each sequence and key head.
  float* packed;
  int64_t packed_keys, packed_words;  // keys of each, a multiple of the key block; words of each

  int64_t rows() const { return T * G; }  // of one key head
  int64_t offset(int64_t b) const { return query_offsets ? query_offsets[b] : query_offset; }
  // Keys of sequence b that some row may see: nothing behind them is ever read.
  int64_t key_count(int64_t b) const {
    const int64_t valid = keys > 0 ? keys : capacity;
    return causal || (keys == 0 && query_offsets) ? std::min(valid, offset(b) + T) : valid;
  }
  // Elements before row r of key head k in q, o and their gradients; before key j in k, v and theirs.
  int64_t row_at(int64_t b, int64_t head, int64_t r) const { return ((b * T + r / G) * H + head * G + r % G) * d; }
  int64_t key_at(int64_t b, int64_t head, int64_t j) const { return ((b * capacity + j) * K + head) * d; }
  int64_t lse_at(int64_t b, int64_t head, int64_t r) const { return (b * K + head) * rows() + r; }

  // Row r of sequence b sees the keys [begin, end); none if begin ≥ end.
  struct Range {
    int64_t begin, end;
  };
  Range visible(int64_t b, int64_t r) const {
    const int64_t t = r / G;
    const int64_t position = offset(b) + t;
    Range range{0, key_count(b)};
    if (causal) range.end = std::min(range.end, position + 1);
    if (window > 0) range.begin = std::max<int64_t>(0, position - window + 1);
    if (first_visible) range.begin = std::max<int64_t>(range.begin, first_visible[b * T + t]);
    return range;
  }
};

// The part of a backward pass that one task computes.
struct AttentionBackwardPart {
  int64_t b, head;
  int64_t row_begin, row_end;  // dq, if wanted, is written for these rows
  int64_t key_begin, key_end;  // dk, dv, if wanted, for these keys: whole key blocks, or up to the last key
  bool dq, dk_dv;
};

// The fast path for one dtype on one instruction set. Scratch is given by the caller, 64-byte aligned.
struct AttentionEngine {
  int64_t tile_rows;                                            // rows that forward takes at once, at most
  int64_t (*packed_words)(const AttentionJob&, bool backward);  // of packed, for one head; 0: not needed
  void (*pack)(const AttentionJob&, int64_t b, int64_t head, int64_t key_begin, int64_t key_end);
  int64_t (*scratch_words)(const AttentionJob&, bool backward, int64_t keys);  // keys: of one backward part
  void (*forward)(const AttentionJob&, int64_t b, int64_t head, int64_t row, int64_t count, float* scratch);
  // The same bits for up to kAttentionDecodeRows rows, at the speed of memory; needs nothing packed.
  void (*decode)(const AttentionJob&, int64_t b, int64_t head, int64_t row, int64_t count, float* scratch);
  void (*backward)(const AttentionJob&, const AttentionBackwardPart&, float* scratch);
};
constexpr int64_t kAttentionDecodeRows = 8;

AttentionEngine attention_engine_f32();          // the best that may be used here
AttentionEngine attention_engine_bf16_in_f32();  // bf16 tensors, f32 arithmetic
bool has_attention_engine_bf16(int64_t d);
AttentionEngine attention_engine_bf16();  // REQUIRES has_attention_engine_bf16

AttentionJob make_attention_job(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

// The scalar reference, straight from the equations; the only path for f64.
void attention_forward_reference(Device&, DType, const AttentionJob&);
void attention_backward_reference(Device&, DType, const AttentionJob&);

// attention_join.cpp
void join_attention(Device&, const Tensor& o, const AttentionStatistics&, Tensor& sum, Tensor& lse);
void round_attention(Device&, const Tensor& sum, Tensor& o, Tensor& o_low);

}  // namespace troupe::kernels::cpu
