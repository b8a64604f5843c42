// Sums of squares, for the gradients' global norm:  norm = sqrt(Σ over tensors of sum_of_squares).
#pragma once
#include <span>

#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

struct GlobalNormKernels {
  double (*sum_of_squares)(Device&, const Tensor& values);
};

// Σ values², summed in f64 over chunks of a fixed length joined in order, so the result does not depend on
// the threads. Not finite exactly if some f32 or bf16 element is not.
double sum_of_squares(const Tensor& values);

// sqrt(Σ sum_of_squares), in the tensors' order. NaN or infinite if some element is.
double global_norm(std::span<const Tensor> tensors);

// What gradients are multiplied by so that their norm is at most `max_norm`: min(1, max_norm / norm);
// 1 where max_norm ≤ 0 (no clipping).   Pascanu et al. 2013.
double clip_scale(double norm, double max_norm);

}  // namespace troupe::kernels
