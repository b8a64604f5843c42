// Rows of tokens put into the order of their experts, and the experts' results put together again.
//
// A token that goes to k experts has k rows, one a slot. Rows stand by expert, and within one in the order of tokens.
#pragma once
#include <vector>

#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct PermutationKernels {
  // experts i32 [N, k], each in [0, E) or -1: no row. Fills tokens i32 [N·k] (of each row, the token; behind the last
  // row undefined), places i32 [N, k] (of each slot, its row or -1) and counts i64 [E].
  void (*order)(Device&, const Tensor& experts, Tensor& tokens, Tensor& places, Tensor& counts);
  // y[m] = x[index[m]], or 0 where that is -1. x [rows, D], index i32 [M], y [M, D]; any dtype.
  void (*gather)(Device&, const Tensor& x, const Tensor& index, Tensor& y);
  // y[t] = Σ_j weights[t, j] · rows[places[t, j]] in the order of slots, in f32 (f64), rounded once; weights
  // undefined: 1.
  void (*combine)(Device&, const Tensor& rows, const Tensor& places, const Tensor& weights, Tensor& y);
  // drows[places[t, j]] = weights[t, j] · dy[t]; every row has one slot.
  void (*spread)(Device&, const Tensor& dy, const Tensor& places, const Tensor& weights, Tensor& drows);
  // dweights[t, j] = rows[places[t, j]] · dy[t], 0 where there is no row; in f32 (f64).
  void (*dots)(Device&, const Tensor& rows, const Tensor& dy, const Tensor& places, Tensor& dweights);
};

struct ExpertOrder {
  Tensor tokens;                // i32 [R]: of each row, the token that it is of
  Tensor places;                // i32 [N, k]: of each slot of a token, its row; -1: none
  std::vector<int64_t> counts;  // [E]: rows of each expert
};

// experts i32 [N.., k]. Errors: a CheckFailure for an expert outside [-1, E).
ExpertOrder order_by_expert(Device&, const Tensor& experts, int64_t E);

// x [N, D] → [R, D]. Backward adds the gradients of a token's rows in the order of its slots.
Value to_expert_order(Tape&, const Value& x, const ExpertOrder&);
// rows [R, D], weights [N.., k] f32 (f64) → [N, D] of the rows' dtype. Keeps both.
Value combine_experts(Tape&, const Value& rows, const Value& weights, const ExpertOrder&);

// x [M, D] → [index.elements(), D], rows by index i32, 0 where it is -1. `inverse` i32 [M]: where each row of x went,
// or -1. REQUIRES: index names a row once at most.
Value permute_rows(Tape&, const Value& x, const Tensor& index, const Tensor& inverse);

}  // namespace troupe::kernels
