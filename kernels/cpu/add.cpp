#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, const Tensor& x, const Tensor& y, Tensor& z) {
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(y.dtype(), [&]<class Y>() {
      using A = Wider<X, Y>;
      const X* px = x.data<X>();
      const Y* py = y.data<Y>();
      X* pz = z.data<X>();
      device.threads().parallel_ranges(x.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) pz[i] = static_cast<X>(read<A>(px[i]) + read<A>(py[i]));
      });
    });
  });
}

}  // namespace

AddKernels add_kernels() { return {.forward = forward}; }

}  // namespace troupe::kernels::cpu
