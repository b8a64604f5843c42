#include "kernels/ops/dropout.h"

#include <algorithm>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/base/random.h"

namespace troupe::kernels::cpu {
namespace {

template <class T>
void apply_row(const T* x, int64_t width, double probability, uint64_t key, T* y) {
  using A = Accumulator<T>;
  const float threshold = static_cast<float>(probability);
  const A scale = static_cast<A>(1 / (1 - probability));
  for (int64_t begin = 0; begin < width; begin += 4) {
    float u[4];
    uniform4(key, static_cast<uint64_t>(begin / 4), u);
    for (int64_t i = begin; i < std::min(begin + 4, width); ++i) {
      y[i] = u[i - begin] < threshold ? T{} : static_cast<T>(static_cast<A>(x[i]) * scale);
    }
  }
}

void apply(Device& device, const Tensor& x, double probability, const DropoutKey& key, const Tensor& sequence_ids,
           const Tensor& positions, Tensor& y) {
  const int64_t T = x.dim(1), width = x.dim(2);
  const uint64_t base = derive_key(derive_key(key.seed, key.step), key.layer, key.op);
  dispatch_float(x.dtype(), [&]<class E>() {
    device.threads().parallel_ranges(x.rows(), std::max<int64_t>(1, 4096 / width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const auto sequence = static_cast<uint64_t>(sequence_ids.data<int64_t>()[row / T]);
        const auto position = static_cast<uint64_t>(positions.data<int32_t>()[row]);
        apply_row(x.data<E>() + row * width, width, probability, derive_key(base, sequence, position),
                  y.data<E>() + row * width);
      }
    });
  });
}

}  // namespace

DropoutKernels dropout_kernels() { return {.apply = apply}; }

}  // namespace troupe::kernels::cpu
