#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gelu.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/activation-inl.h"
#include "kernels/cpu/activation_reference.h"
#include "kernels/cpu/cpu_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <Activation kind, class X>
void activation_range(const X* x, X* y, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto)
                         HWY_ATTR { store(part, activate_vector<kind>(load(part, x + i)).value, y + i); });
}

template <Activation kind, class X>
void activation_backward_range(const X* x, const X* dy, X* dx, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
    store(part, activate_vector<kind>(load(part, x + i)).slope * load(part, dy + i), dx + i);
  });
}

void activation_forward(Device& device, Activation kind, const Tensor& x, Tensor& y) {
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_activation(kind, [&]<Activation k>() {
      parallel_elements(device, x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
        activation_range<k>(x.data<X>() + begin, y.data<X>() + begin, end - begin);
      });
    });
  });
}

void activation_backward(Device& device, Activation kind, const Tensor& x, const Tensor& dy, Tensor& dx) {
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_activation(kind, [&]<Activation k>() {
      parallel_elements(device, x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
        activation_backward_range<k>(x.data<X>() + begin, dy.data<X>() + begin, dx.data<X>() + begin, end - begin);
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

HWY_EXPORT(activation_forward);
HWY_EXPORT(activation_backward);

void forward(Device& device, Activation kind, const Tensor& x, Tensor& y) {
  if (x.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(activation_forward)(device, kind, x, y);
  parallel_elements(device, x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y.data<double>()[i] = activate(kind, x.data<double>()[i]).value;
  });
}

void backward(Device& device, Activation kind, const Tensor& x, const Tensor& dy, Tensor& dx) {
  if (x.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(activation_backward)(device, kind, x, dy, dx);
  parallel_elements(device, x.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      dx.data<double>()[i] = activate(kind, x.data<double>()[i]).slope * dy.data<double>()[i];
    }
  });
}

}  // namespace

ActivationKernels activation_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
#endif
