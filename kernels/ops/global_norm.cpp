#include "kernels/ops/global_norm.h"

#include <cmath>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

double sum_of_squares(const Tensor& values) {
  return values.device().kernels().global_norm.sum_of_squares(values.device(), values);
}

double global_norm(std::span<const Tensor> tensors) {
  double sum = 0;
  for (const Tensor& tensor : tensors) sum += sum_of_squares(tensor);
  return std::sqrt(sum);
}

double clip_scale(double norm, double max_norm) { return max_norm > 0 && norm > max_norm ? max_norm / norm : 1; }

}  // namespace troupe::kernels
