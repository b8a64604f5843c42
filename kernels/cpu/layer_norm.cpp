#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void forward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon, Tensor& y,
             Tensor& mean, Tensor& inverse_deviation) {
  const int64_t width = x.dim(-1);
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(weight.dtype(), [&]<class W>() {
      dispatch_float(y.dtype(), [&]<class Y>() {
        using A = Accumulator<Y>;
        const X* px = x.data<X>();
        const W* pw = weight.data<W>();
        const W* pb = bias.defined() ? bias.data<W>() : nullptr;
        Y* py = y.data<Y>();
        A* means = mean.defined() ? mean.data<A>() : nullptr;
        A* inverses = mean.defined() ? inverse_deviation.data<A>() : nullptr;
        device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const X* row = px + r * width;
            A sum = 0;
            for (int64_t i = 0; i < width; ++i) sum += read<A>(row[i]);
            const A average = sum / static_cast<A>(width);
            A squares = 0;
            for (int64_t i = 0; i < width; ++i) squares += (read<A>(row[i]) - average) * (read<A>(row[i]) - average);
            const A inverse = A(1) / std::sqrt(squares / static_cast<A>(width) + static_cast<A>(epsilon));
            if (means) means[r] = average, inverses[r] = inverse;
            for (int64_t i = 0; i < width; ++i) {
              py[r * width + i] =
                  static_cast<Y>((read<A>(row[i]) - average) * inverse * read<A>(pw[i]) + (pb ? read<A>(pb[i]) : A(0)));
            }
          }
        });
      });
    });
  });
}

// x̂ = (x - mean) · inverse;  g = dy · w;  dx = inverse · (g - mean(g) - x̂ · mean(g·x̂));  dw = Σ dy·x̂;  db = Σ dy.
void backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& mean,
              const Tensor& inverse_deviation, const Tensor& dy, GradientTarget dx, GradientTarget dweight,
              GradientTarget dbias) {
  const int64_t width = x.dim(-1);
  const RowChunks chunks(x.rows());
  dispatch_float(x.dtype(), [&]<class X>() {
    dispatch_float(weight.dtype(), [&]<class W>() {
      dispatch_float(dy.dtype(), [&]<class Y>() {
        using A = Accumulator<Y>;
        const X* px = x.data<X>();
        const W* pw = weight.data<W>();
        const Y* pdy = dy.data<Y>();
        const A* means = mean.data<A>();
        const A* inverses = inverse_deviation.data<A>();
        X* pdx = dx.tensor.defined() ? dx.tensor.data<X>() : nullptr;
        std::vector<A> partial(static_cast<size_t>(2 * chunks.count * width));
        device.threads().parallel_for(chunks.count, [&](int64_t chunk) {
          A* weights = partial.data() + 2 * chunk * width;
          A* biases = weights + width;
          for (int64_t r = chunks.begin(chunk); r < chunks.end(chunk); ++r) {
            A sum = 0, dot = 0;
            for (int64_t i = 0; i < width; ++i) {
              const int64_t at = r * width + i;
              const A normal = (read<A>(px[at]) - means[r]) * inverses[r];
              sum += read<A>(pdy[at]) * read<A>(pw[i]);
              dot += read<A>(pdy[at]) * read<A>(pw[i]) * normal;
              weights[i] += read<A>(pdy[at]) * normal;
              biases[i] += read<A>(pdy[at]);
            }
            sum /= static_cast<A>(width);
            dot /= static_cast<A>(width);
            for (int64_t i = 0; pdx && i < width; ++i) {
              const int64_t at = r * width + i;
              const A normal = (read<A>(px[at]) - means[r]) * inverses[r];
              write(pdx[at], inverses[r] * (read<A>(pdy[at]) * read<A>(pw[i]) - sum - normal * dot), dx.accumulate);
            }
          }
        });
        for (int which : {0, 1}) {
          const GradientTarget& target = which == 0 ? dweight : dbias;
          if (!target.tensor.defined()) continue;
          dispatch_float(target.tensor.dtype(), [&]<class G>() {
            for (int64_t i = 0; i < width; ++i) {
              A sum = 0;
              for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
                sum += partial[static_cast<size_t>((2 * chunk + which) * width + i)];
              }
              write(target.tensor.data<G>()[i], sum, target.accumulate);
            }
          });
        }
      });
    });
  });
}

}  // namespace

LayerNormKernels layer_norm_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
