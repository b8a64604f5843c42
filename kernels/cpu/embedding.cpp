#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, const Tensor& tokens, const Tensor& table, Tensor& y) {
  const int64_t count = tokens.elements();
  const int64_t width = table.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  for (int64_t t = 0; t < count; ++t) {
    TROUPE_CHECK(0 <= ids[t] && ids[t] < table.dim(0), "embedding: token {} at index {}, the table has {} rows", ids[t],
                 t, table.dim(0));
  }
  dispatch_float(table.dtype(), [&]<class W>() {
    dispatch_float(y.dtype(), [&]<class Y>() {
      const W* from = table.data<W>();
      Y* to = y.data<Y>();
      device.threads().parallel_ranges(count, row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const W* row = from + ids[t] * width;
          if constexpr (std::is_same_v<W, Y>) {
            std::memcpy(to + t * width, row, static_cast<size_t>(width) * sizeof(W));
          } else {
            for (int64_t i = 0; i < width; ++i) to[t * width + i] = static_cast<Y>(read<Wider<W, Y>>(row[i]));
          }
        }
      });
    });
  });
}

// Each piece owns columns, so that every element of the table sums in the tokens' order.
void backward(Device& device, const Tensor& tokens, const Tensor& dy, GradientTarget dtable) {
  const int64_t count = tokens.elements();
  const int64_t width = dtable.tensor.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  if (!dtable.accumulate) dtable.tensor.fill_zero();
  dispatch_float(dy.dtype(), [&]<class Y>() {
    using A = Accumulator<Y>;
    const Y* from = dy.data<Y>();
    A* to = dtable.tensor.data<A>();
    constexpr int64_t kColumns = 64;
    device.threads().parallel_ranges((width + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kColumns;
      const int64_t last = std::min(width, end * kColumns);
      for (int64_t t = 0; t < count; ++t) {
        A* row = to + ids[t] * width;
        for (int64_t i = first; i < last; ++i) row[i] += read<A>(from[t * width + i]);
      }
    });
  });
}

}  // namespace

EmbeddingKernels embedding_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
