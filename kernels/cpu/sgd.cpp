#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

// Memory-bound: plain loops are as fast as anything.
void step(Device& device, const SgdStep& options, const Tensor& gradient, Tensor& master, Tensor& compute) {
  dispatch_float(master.dtype(), [&]<class T>() {
    if constexpr (!std::is_same_v<T, bf16>) {
      const T keep = static_cast<T>(1 - options.learning_rate * options.weight_decay);
      const T rate = static_cast<T>(options.learning_rate * options.gradient_scale);
      const T* g = gradient.data<T>();
      T* p = master.data<T>();
      parallel_elements(device, master.elements(), 1 << 13, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) p[i] = p[i] * keep - rate * g[i];
      });
    }
  });
  if (compute.defined()) device.kernels().tensor.convert(device, master, compute);
}

}  // namespace

SgdKernels sgd_kernels() { return {.step = step}; }

}  // namespace troupe::kernels::cpu
