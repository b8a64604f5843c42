#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void rotate(Device& device, const Tensor& x, const Tensor& positions, const RopeTable& table, bool inverse, Tensor& y) {
  const int64_t tokens = positions.elements();
  const int64_t width = table.options().head_width;
  const int64_t heads = tokens == 0 ? 0 : x.elements() / (tokens * width);
  const int64_t half = table.rotary() / 2;
  const int32_t* at = positions.data<int32_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    TROUPE_CHECK(0 <= at[t] && at[t] < table.positions(), "rope: position {} of a table of {}", at[t],
                 table.positions());
  }
  dispatch_float(x.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const X* px = x.data<X>();
    X* py = y.data<X>();
    device.threads().parallel_ranges(tokens, row_grain(heads * width), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const A* cos = table.cos().data<A>() + at[t] * half;
        const A* sin = table.sin().data<A>() + at[t] * half;
        for (int64_t h = 0; h < heads; ++h) {
          const X* from = px + (t * heads + h) * width;
          X* to = py + (t * heads + h) * width;
          for (int64_t i = 0; i < half; ++i) {
            const A a = read<A>(from[i]), b = read<A>(from[i + half]);
            const A s = inverse ? -sin[i] : sin[i];
            to[i] = static_cast<X>(a * cos[i] - b * s);
            to[i + half] = static_cast<X>(b * cos[i] + a * s);
          }
          for (int64_t i = 2 * half; i < width; ++i) to[i] = from[i];
        }
      }
    });
  });
}

}  // namespace

RopeKernels rope_kernels() { return {.rotate = rotate}; }

}  // namespace troupe::kernels::cpu
