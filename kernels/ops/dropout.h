// Dropout: each element is zeroed with the given probability, the others are scaled up to keep the mean.
// Srivastava et al. 2014. Nothing is stored: the mask is a function of its key, so backward draws it
// again, and it depends neither on the layout nor on how the batch is cut.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

// With a token's sequence and position, and the element's feature, this determines a random number.
struct DropoutKey {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint32_t layer = 0;
  uint32_t op = 0;  // which dropout of the layer
};

struct DropoutKernels {
  // y[b, t, i] = x[b, t, i] · (u ≥ probability) / (1 - probability), u drawn for (key, sequence_ids[b],
  // positions[b, t], i). y may be x.
  void (*apply)(Device&, const Tensor& x, double probability, const DropoutKey&, const Tensor& sequence_ids,
                const Tensor& positions, Tensor& y);
};

// x [B, T, D] f64, f32 or bf16; sequence_ids i64 [B]; positions i32 [B, T]. Returns x's shape and dtype.
// REQUIRES: 0 ≤ probability < 1.
Value dropout(Tape&, const Value& x, double probability, const DropoutKey&, const Tensor& sequence_ids,
              const Tensor& positions);

}  // namespace troupe::kernels
