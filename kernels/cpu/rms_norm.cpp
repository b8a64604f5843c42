#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, const Tensor& x, const Tensor& weight, double epsilon, Tensor& y, Tensor& inverse_rms) {
  const int64_t width = x.dim(-1);
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(weight.dtype(), [&]<class W>() {
      dispatch_float(y.dtype(), [&]<class Y>() {
        using A = Accumulator<Y>;
        const X* px = x.data<X>();
        const W* pw = weight.data<W>();
        Y* py = y.data<Y>();
        A* kept = inverse_rms.defined() ? inverse_rms.data<A>() : nullptr;
        device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const X* row = px + r * width;
            A sum = 0;
            for (int64_t i = 0; i < width; ++i) sum += read<A>(row[i]) * read<A>(row[i]);
            const A inverse = A(1) / std::sqrt(sum / static_cast<A>(width) + static_cast<A>(epsilon));
            if (kept) kept[r] = inverse;
            for (int64_t i = 0; i < width; ++i) {
              py[r * width + i] = static_cast<Y>(read<A>(row[i]) * inverse * read<A>(pw[i]));
            }
          }
        });
      });
    });
  });
}

// x̂ = x · inverse;  dx = inverse · (dy·w - x̂ · mean(dy·w·x̂));  dw = Σ dy·x̂.
void backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& inverse_rms, const Tensor& dy,
              GradientTarget dx, GradientTarget dweight) {
  const int64_t width = x.dim(-1);
  const RowChunks chunks(x.rows());
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(weight.dtype(), [&]<class W>() {
      dispatch_float(dy.dtype(), [&]<class Y>() {
        using A = Accumulator<Y>;
        const X* px = x.data<X>();
        const W* pw = weight.data<W>();
        const Y* pdy = dy.data<Y>();
        const A* kept = inverse_rms.data<A>();
        X* pdx = dx.tensor.defined() ? dx.tensor.data<X>() : nullptr;
        std::vector<A> partial(dweight.tensor.defined() ? static_cast<size_t>(chunks.count * width) : 0);
        device.threads().parallel_for(chunks.count, [&](int64_t chunk) {
          A* sums = partial.empty() ? nullptr : partial.data() + chunk * width;
          for (int64_t r = chunks.begin(chunk); r < chunks.end(chunk); ++r) {
            A dot = 0;
            for (int64_t i = 0; i < width; ++i) {
              const int64_t at = r * width + i;
              const A normal = read<A>(px[at]) * kept[r];
              dot += read<A>(pdy[at]) * read<A>(pw[i]) * normal;
              if (sums) sums[i] += read<A>(pdy[at]) * normal;
            }
            dot /= static_cast<A>(width);
            for (int64_t i = 0; pdx && i < width; ++i) {
              const int64_t at = r * width + i;
              const A normal = read<A>(px[at]) * kept[r];
              write(pdx[at], kept[r] * (read<A>(pdy[at]) * read<A>(pw[i]) - normal * dot), dx.accumulate);
            }
          }
        });
        if (partial.empty()) return;
        dispatch_float(dweight.tensor.dtype(), [&]<class G>() {
          for (int64_t i = 0; i < width; ++i) {
            A sum = 0;
            for (int64_t chunk = 0; chunk < chunks.count; ++chunk)
              sum += partial[static_cast<size_t>(chunk * width + i)];
            write(dweight.tensor.data<G>()[i], sum, dweight.accumulate);
          }
        });
      });
    });
  });
}

}  // namespace

RmsNormKernels rms_norm_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
