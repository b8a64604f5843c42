#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

// All heads of one token. `sign` 1 turns forward, -1 back.
template <class X>
void rope_token(const X* x, const float* cos, const float* sin, int64_t heads, int64_t width, int64_t half, float sign,
                X* y) {
  const VF direction = hn::Set(F(), sign);
  for (int64_t h = 0; h < heads; ++h, x += width, y += width) {
    for_vectors(half, [&](int64_t i, auto part, auto) HWY_ATTR {
      const VF a = load(part, x + i);
      const VF b = load(part, x + half + i);
      const VF c = load(part, cos + i);
      const VF s = load(part, sin + i) * direction;
      store(part, hn::NegMulAdd(b, s, a * c), y + i);
      store(part, hn::MulAdd(a, s, b * c), y + half + i);
    });
    if (x != y && 2 * half < width) {
      std::memcpy(y + 2 * half, x + 2 * half, static_cast<size_t>(width - 2 * half) * sizeof(X));
    }
  }
}

void rope_rotate(Device& device, const Tensor& x, const Tensor& positions, const RopeTable& table, bool inverse,
                 Tensor& y) {
  const int64_t tokens = positions.elements();
  const int64_t width = table.options().head_width;
  const int64_t heads = x.elements() / std::max<int64_t>(tokens * width, 1);
  const int64_t half = table.rotary() / 2;
  const int32_t* position = positions.data<int32_t>();
  const float* cos = table.cos().data<float>();
  const float* sin = table.sin().data<float>();
  dispatch_fast(x.dtype(), [&]<class X>() {
    device.threads().parallel_ranges(tokens, row_grain(heads * width), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        rope_token(x.data<X>() + t * heads * width, cos + position[t] * half, sin + position[t] * half, heads, width,
                   half, inverse ? -1.0f : 1.0f, y.data<X>() + t * heads * width);
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(rope_rotate);

void rotate(Device& device, const Tensor& x, const Tensor& positions, const RopeTable& table, bool inverse, Tensor& y) {
  const int64_t tokens = positions.elements();
  const int32_t* position = positions.data<int32_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    TROUPE_CHECK(0 <= position[t] && position[t] < table.positions(), "rope: position {} of a table of {}", position[t],
                 table.positions());
  }
  if (x.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(rope_rotate)(device, x, positions, table, inverse, y);
  const int64_t width = table.options().head_width;
  const int64_t heads = x.elements() / std::max<int64_t>(tokens * width, 1);
  const int64_t half = table.rotary() / 2;
  device.threads().parallel_ranges(tokens, row_grain(heads * width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double* cos = table.cos().data<double>() + position[t] * half;
      const double* sin = table.sin().data<double>() + position[t] * half;
      for (int64_t h = 0; h < heads; ++h) {
        const double* from = x.data<double>() + (t * heads + h) * width;
        double* to = y.data<double>() + (t * heads + h) * width;
        for (int64_t i = 0; i < half; ++i) {
          const double a = from[i], b = from[i + half];
          const double s = inverse ? -sin[i] : sin[i];
          to[i] = a * cos[i] - b * s;
          to[i + half] = b * cos[i] + a * s;
        }
        for (int64_t i = 2 * half; i < width; ++i) to[i] = from[i];
      }
    }
  });
}

}  // namespace

RopeKernels rope_kernels() { return {.rotate = rotate}; }

}  // namespace troupe::kernels::cpu
#endif
