// Tensor parallelism with sequence parallelism: linear layers divided by outputs or inputs, and everything between them
// by tokens, so that no rank of the tensor axis computes or keeps what another does.   Shoeybi et al. 2019
// (Megatron-LM), section 3; Korthikanti et al. 2022, figures 5 and 6.
//
// Between layers rank r of t holds tokens [r, r + 1) · T/t of each sequence: [B, T/t, D]. A layer divided by outputs
// gathers them to [B, T, D], one divided by inputs sums its partial results to [B, T/t, D] again. What was gathered is
// not kept: backward gathers it again while it computes the input's gradient. With one rank all of this is plain
// `linear`. T is a multiple of t. Partial results travel as they are summed, in f32 under bf16, in the order of ranks,
// and are rounded once: a layout is as precise as one rank.
#pragma once
#include <span>
#include <vector>

#include "kernels/autograd/tape.h"
#include "parallel/comm/communicator.h"

namespace troupe::parallel {

using kernels::Tape;
using kernels::Tensor;
using kernels::Value;

// x [B, n, …] of every rank → [B, t · n, …], in the order of ranks.
Tensor gather_tokens(Communicator& tensor, const Tensor& x);
// This rank's tokens of the sum of all ranks' x: [B, T, …] → [B, T/t, …].
Tensor sum_tokens(Communicator& tensor, const Tensor& x);

struct LinearParameters {
  Value weight;  // this rank's [out, in]
  Value bias;    // [out] or undefined
};

// x [B, T/t, K] → [B, T, N/t] of each layer, whose outputs the ranks divide.
std::vector<Value> column_linears(Tape&, Communicator& tensor, const Value& x,
                                  std::span<const LinearParameters> layers);
// x [B, T, K/t] → [B, T/t, N]; ranks divide the layer's inputs, each holds the whole bias.
Value row_linear(Tape&, Communicator& tensor, const Value& x, const LinearParameters& layer);

// tokens i32 [B, T] → [B, T/t, D] of dtype `output`; table [rows, D] holds rows [first, first + rows) of the
// vocabulary. Errors: a CheckFailure for a token outside [0, vocabulary).
Value split_embedding(Tape&, Communicator& tensor, const Tensor& tokens, const Value& table, int64_t first,
                      int64_t vocabulary, kernels::DType output);

}  // namespace troupe::parallel
