#include "kernels/cpu/activation_reference.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, Activation kind, const Tensor& x, Tensor& y) {
  dispatch_float(x.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const X* px = x.data<X>();
    X* py = y.data<X>();
    device.threads().parallel_ranges(x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) py[i] = static_cast<X>(activate(kind, read<A>(px[i])).value);
    });
  });
}

void backward(Device& device, Activation kind, const Tensor& x, const Tensor& dy, Tensor& dx) {
  dispatch_float(x.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const X* px = x.data<X>();
    const X* pdy = dy.data<X>();
    X* pdx = dx.data<X>();
    device.threads().parallel_ranges(x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        pdx[i] = static_cast<X>(activate(kind, read<A>(px[i])).slope * read<A>(pdy[i]));
      }
    });
  });
}

}  // namespace

ActivationKernels activation_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
