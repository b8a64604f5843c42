#include "kernels/cpu/activation_reference.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, Tensor& y) {
  dispatch_float(gate.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const X* pg = gate.data<X>();
    const X* pu = up.data<X>();
    X* py = y.data<X>();
    device.threads().parallel_ranges(gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        py[i] = static_cast<X>(activate(kind, read<A>(pg[i])).value * read<A>(pu[i]));
      }
    });
  });
}

void backward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, const Tensor& dy, Tensor& dgate,
              Tensor& dup) {
  dispatch_float(gate.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const X* pg = gate.data<X>();
    const X* pu = up.data<X>();
    const X* pdy = dy.data<X>();
    X* pdg = dgate.data<X>();
    X* pdu = dup.data<X>();
    device.threads().parallel_ranges(gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto [value, slope] = activate(kind, read<A>(pg[i]));
        const A d = read<A>(pdy[i]);
        const A u = read<A>(pu[i]);
        pdg[i] = static_cast<X>(slope * u * d);
        pdu[i] = static_cast<X>(value * d);
      }
    });
  });
}

}  // namespace

GatedKernels gated_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
