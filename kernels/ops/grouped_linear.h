// Grouped linear: rows in groups, each with a weight of its own: what experts are made of.
#pragma once
#include <vector>

#include "kernels/autograd/tape.h"

namespace troupe::kernels {

// x [R, K]; group g has rows [offsets[g], offsets[g + 1]); weight [G, N, K]. Returns [R, N] of dtype `output`, the
// weight's or accumulator_of() it: y = x · weight[g]ᵀ, summed as `linear` does. x has either dtype too, and is rounded
// to the weight's; its gradient is not, where x is wide. Saves x as rounded. Groups may be empty: their weight's
// gradient is zero. REQUIRES: G + 1 offsets, ascending from 0 to R.
Value grouped_linear(Tape&, const Value& x, const std::vector<int64_t>& offsets, const Value& weight, DType output);
inline Value grouped_linear(Tape& tape, const Value& x, const std::vector<int64_t>& offsets, const Value& weight) {
  return grouped_linear(tape, x, offsets, weight, weight.dtype());
}

}  // namespace troupe::kernels
