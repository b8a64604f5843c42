#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

constexpr int64_t kChunk = 1 << 16;

double sum_of_squares(Device& device, const Tensor& values) {
  const int64_t count = values.elements();
  std::vector<double> sums(static_cast<size_t>((count + kChunk - 1) / kChunk));
  dispatch_float(values.dtype(), [&]<class X>() {
    const X* x = values.data<X>();
    device.threads().parallel_for(static_cast<int64_t>(sums.size()), [&](int64_t chunk) {
      double sum = 0;
      for (int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); ++i) {
        sum += read<double>(x[i]) * read<double>(x[i]);
      }
      sums[static_cast<size_t>(chunk)] = sum;
    });
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace

GlobalNormKernels global_norm_kernels() { return {.sum_of_squares = sum_of_squares}; }

}  // namespace troupe::kernels::cpu
