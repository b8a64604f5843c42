#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void step(Device& device, const AdamWStep& options, const Tensor& gradient, Tensor& master, Tensor& first_moment,
          Tensor& second_moment, Tensor& compute) {
  dispatch_float(master.dtype(), [&]<class M>() {
    using A = Accumulator<M>;
    dispatch_float(compute.defined() ? compute.dtype() : master.dtype(), [&]<class C>() {
      const double correction1 = 1 - std::pow(options.beta1, static_cast<double>(options.step));
      const double correction2 = 1 - std::pow(options.beta2, static_cast<double>(options.step));
      const A beta1 = static_cast<A>(options.beta1), beta2 = static_cast<A>(options.beta2);
      const A rest1 = static_cast<A>(1 - options.beta1), rest2 = static_cast<A>(1 - options.beta2);
      const A scale = static_cast<A>(options.gradient_scale), epsilon = static_cast<A>(options.epsilon);
      const A keep = static_cast<A>(1 - options.learning_rate * options.weight_decay);
      const A rate = static_cast<A>(options.learning_rate / correction1);
      const A root = static_cast<A>(1 / std::sqrt(correction2));
      const A* pg = gradient.data<A>();
      A* p = master.data<A>();
      A* m = first_moment.data<A>();
      A* v = second_moment.data<A>();
      C* c = compute.defined() ? compute.data<C>() : nullptr;
      device.threads().parallel_ranges(master.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const A g = pg[i] * scale;
          m[i] = beta1 * m[i] + rest1 * g;
          v[i] = beta2 * v[i] + rest2 * g * g;
          p[i] = p[i] * keep - rate * m[i] / (std::sqrt(v[i]) * root + epsilon);
          if (c) c[i] = static_cast<C>(p[i]);
        }
      });
    });
  });
}

}  // namespace

AdamWKernels adamw_kernels() { return {.step = step}; }

}  // namespace troupe::kernels::cpu
