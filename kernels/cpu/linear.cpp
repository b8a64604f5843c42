// Column sums: the gradient of a bias. Each task owns a range of columns and walks all rows in order, so
// the sum does not depend on the threads.
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"

namespace troupe::kernels::cpu {
namespace {

constexpr int64_t kColumns = 256;  // a task's share: whole cache lines, sums stay in L1

template <class T>
void sum_columns(const T* x, int64_t rows, int64_t width, int64_t begin, int64_t end, Accumulator<T>* to,
                 bool accumulate) {
  std::vector<Accumulator<T>> sums(static_cast<size_t>(end - begin), 0);
  if (accumulate) std::copy(to + begin, to + end, sums.begin());
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = x + row * width + begin;
    for (int64_t i = 0; i < end - begin; ++i) sums[static_cast<size_t>(i)] += static_cast<Accumulator<T>>(from[i]);
  }
  std::copy(sums.begin(), sums.end(), to + begin);
}

void column_sum(Device& device, const Tensor& x, const GradientTarget& to) {
  const int64_t width = x.dim(-1), rows = x.rows();
  TROUPE_CHECK(to.tensor.elements() == width, "column sum of {} into {}", x.shape().to_string(),
               to.tensor.shape().to_string());
  dispatch_float(x.dtype(), [&]<class T>() {
    device.threads().parallel_for((width + kColumns - 1) / kColumns, [&](int64_t task) {
      sum_columns(x.data<T>(), rows, width, task * kColumns, std::min(width, (task + 1) * kColumns),
                  to.tensor.data<Accumulator<T>>(), to.accumulate);
    });
  });
}

}  // namespace

LinearKernels linear_kernels() { return {.column_sum = column_sum}; }

}  // namespace troupe::kernels::cpu
