#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/activation-inl.h"
#include "kernels/cpu/activation_reference.h"
#include "kernels/cpu/cpu_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <Activation kind, class X>
void gated_range(const X* gate, const X* up, X* y, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
    store(part, activate_vector<kind>(load(part, gate + i)).value * load(part, up + i), y + i);
  });
}

template <Activation kind, class X>
void gated_backward_range(const X* gate, const X* up, const X* dy, X* dgate, X* dup, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
    const VectorSlope f = activate_vector<kind>(load(part, gate + i));
    const VF d = load(part, dy + i);
    const VF u = load(part, up + i);
    store(part, f.slope * u * d, dgate + i);
    store(part, f.value * d, dup + i);
  });
}

void gated_forward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, Tensor& y) {
  dispatch_fast(gate.dtype(), [&]<class X>() {
    dispatch_activation(kind, [&]<Activation k>() {
      parallel_elements(device, gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
        gated_range<k>(gate.data<X>() + begin, up.data<X>() + begin, y.data<X>() + begin, end - begin);
      });
    });
  });
}

void gated_backward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, const Tensor& dy,
                    Tensor& dgate, Tensor& dup) {
  dispatch_fast(gate.dtype(), [&]<class X>() {
    dispatch_activation(kind, [&]<Activation k>() {
      parallel_elements(device, gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
        gated_backward_range<k>(gate.data<X>() + begin, up.data<X>() + begin, dy.data<X>() + begin,
                                dgate.data<X>() + begin, dup.data<X>() + begin, end - begin);
      });
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(gated_forward);
HWY_EXPORT(gated_backward);

void forward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, Tensor& y) {
  if (gate.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(gated_forward)(device, kind, gate, up, y);
  parallel_elements(device, gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      y.data<double>()[i] = activate(kind, gate.data<double>()[i]).value * up.data<double>()[i];
    }
  });
}

void backward(Device& device, Activation kind, const Tensor& gate, const Tensor& up, const Tensor& dy, Tensor& dgate,
              Tensor& dup) {
  if (gate.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(gated_backward)(device, kind, gate, up, dy, dgate, dup);
  }
  parallel_elements(device, gate.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [value, slope] = activate(kind, gate.data<double>()[i]);
      const double d = dy.data<double>()[i];
      const double u = up.data<double>()[i];
      dgate.data<double>()[i] = slope * u * d;
      dup.data<double>()[i] = value * d;
    }
  });
}

}  // namespace

GatedKernels gated_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
#endif
