#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/add.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class X, class Y>
void add_range(const X* x, const Y* y, X* z, int64_t count) {
  for_vectors(count,
              [&](int64_t i, auto part, auto) HWY_ATTR { store(part, load(part, x + i) + load(part, y + i), z + i); });
}

void add_fast(Device& device, const Tensor& x, const Tensor& y, Tensor& z) {
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_fast(y.dtype(), [&]<class Y>() {
      parallel_elements(device, x.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
        add_range(x.data<X>() + begin, y.data<Y>() + begin, z.data<X>() + begin, end - begin);
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

HWY_EXPORT(add_fast);

void forward(Device& device, const Tensor& x, const Tensor& y, Tensor& z) {
  if (x.dtype() != DType::f64 && y.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(add_fast)(device, x, y, z);
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(y.dtype(), [&]<class Y>() {
      parallel_elements(device, x.elements(), 1 << 14, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          z.data<X>()[i] = static_cast<X>(read<double>(x.data<X>()[i]) + read<double>(y.data<Y>()[i]));
        }
      });
    });
  });
}

}  // namespace

AddKernels add_kernels() { return {.forward = forward}; }

}  // namespace troupe::kernels::cpu
#endif
