// Column sums: the gradient of a bias. Each task owns a range of columns and walks all rows in order, so
// the sum does not depend on the threads.
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

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

void add_rows(Device& device, const Tensor& bias, Tensor& y) {
  const int64_t width = y.dim(-1);
  TROUPE_CHECK(bias.elements() == width, "add {} to the rows of {}", bias.shape().to_string(), y.shape().to_string());
  dispatch_float(y.dtype(), [&]<class T>() {
    const Tensor wide = bias.to(accumulator_of(y.dtype()), MemoryKind::buffers);
    const Accumulator<T>* add = wide.data<Accumulator<T>>();
    device.threads().parallel_ranges(y.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * width; i < end * width; i += width) {
        T* row = y.data<T>() + i;
        for (int64_t n = 0; n < width; ++n) row[n] = static_cast<T>(static_cast<Accumulator<T>>(row[n]) + add[n]);
      }
    });
  });
}

}  // namespace

LinearKernels linear_kernels() { return {.column_sum = column_sum, .add_rows = add_rows}; }

}  // namespace troupe::kernels::cpu
