#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/norm_scratch.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class X, class Y>
void layer_norm_row(const X* x, const float* weight, const float* bias, int64_t width, float epsilon, Y* y, float* mean,
                    float* inverse_deviation) {
  Sums sums, squares;
  for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR { sums.part[k] = sums.part[k] + load(part, x + i); });
  const float average = sums.total() / static_cast<float>(width);
  const VF center = hn::Set(F(), average);
  for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
    const VF v = keep(part, load(part, x + i) - center);
    squares.part[k] = hn::MulAdd(v, v, squares.part[k]);
  });
  const float inverse = 1.0f / std::sqrt(squares.total() / static_cast<float>(width) + epsilon);
  if (mean) *mean = average, *inverse_deviation = inverse;
  const VF scale = hn::Set(F(), inverse);
  if (bias) {
    for_vectors(width, [&](int64_t i, auto part, auto) HWY_ATTR {
      const VF normal = (load(part, x + i) - center) * scale;
      store(part, hn::MulAdd(normal, load(part, weight + i), load(part, bias + i)), y + i);
    });
  } else {
    for_vectors(width, [&](int64_t i, auto part, auto) HWY_ATTR {
      store(part, (load(part, x + i) - center) * scale * load(part, weight + i), y + i);
    });
  }
}

void layer_norm_forward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                        Tensor& y, Tensor& mean, Tensor& inverse_deviation) {
  const int64_t width = x.dim(-1);
  const WideWeight wide(weight), shift(bias);
  float* means = mean.defined() ? mean.data<float>() : nullptr;
  float* inverses = mean.defined() ? inverse_deviation.data<float>() : nullptr;
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_fast(y.dtype(), [&]<class Y>() {
      device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          layer_norm_row(x.data<X>() + r * width, wide.data(), shift.data(), width, static_cast<float>(epsilon),
                         y.data<Y>() + r * width, means ? means + r : nullptr, means ? inverses + r : nullptr);
        }
      });
    });
  });
}

// dweight += dy · x̂ and dbias += dy where wanted; dx written or added to where wanted.
template <class X, class Y>
void layer_norm_backward_row(const X* x, const float* weight, const Y* dy, int64_t width, float mean, float inverse,
                             float* dweight, float* dbias, X* dx, bool accumulate) {
  const VF center = hn::Set(F(), mean), scale = hn::Set(F(), inverse);
  Sums sums, dots;
  if (dweight) {
    for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
      const VF d = load(part, dy + i);
      const VF w = load(part, weight + i);
      const VF product = d * ((load(part, x + i) - center) * scale);
      sums.part[k] = hn::MulAdd(d, w, sums.part[k]);
      dots.part[k] = hn::MulAdd(product, w, dots.part[k]);
      store(part, load(part, dweight + i) + product, dweight + i);
      store(part, load(part, dbias + i) + d, dbias + i);
    });
  } else {
    for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
      const VF g = load(part, dy + i) * load(part, weight + i);
      sums.part[k] = sums.part[k] + g;
      dots.part[k] = hn::MulAdd(g, (load(part, x + i) - center) * scale, dots.part[k]);
    });
  }
  if (!dx) return;
  const VF average = hn::Set(F(), sums.total() / static_cast<float>(width));
  const VF share = hn::Set(F(), dots.total() / static_cast<float>(width));
  for_vectors(width, [&](int64_t i, auto part, auto) HWY_ATTR {
    const VF normal = (load(part, x + i) - center) * scale;
    const VF g = load(part, dy + i) * load(part, weight + i) - average;
    store_or_add(part, hn::NegMulAdd(normal, share, g) * scale, dx + i, accumulate);
  });
}

void layer_norm_backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& mean,
                         const Tensor& inverse_deviation, const Tensor& dy, GradientTarget dx, GradientTarget dweight,
                         GradientTarget dbias) {
  const int64_t width = x.dim(-1);
  const WideWeight wide(weight);
  const bool weights = dweight.tensor.defined() || dbias.tensor.defined();
  ColumnSums<float> sums(device, x.rows(), weights ? 2 * width : 0);
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_fast(dy.dtype(), [&]<class Y>() {
      sums.for_chunks([&](int64_t begin, int64_t end, float* partial) {
        for (int64_t r = begin; r < end; ++r) {
          layer_norm_backward_row(x.data<X>() + r * width, wide.data(), dy.data<Y>() + r * width, width,
                                  mean.data<float>()[r], inverse_deviation.data<float>()[r], partial,
                                  partial ? partial + width : nullptr,
                                  dx.tensor.defined() ? dx.tensor.data<X>() + r * width : nullptr, dx.accumulate);
        }
      });
    });
  });
  sums.add_to(dweight, 0);
  sums.add_to(dbias, width);
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(layer_norm_forward);
HWY_EXPORT(layer_norm_backward);

void forward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon, Tensor& y,
             Tensor& mean, Tensor& inverse_deviation) {
  if (x.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(layer_norm_forward)(device, x, weight, bias, epsilon, y, mean, inverse_deviation);
  }
  const int64_t width = x.dim(-1);
  const double* pw = weight.data<double>();
  const double* pb = bias.defined() ? bias.data<double>() : nullptr;
  device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const double* row = x.data<double>() + r * width;
      double* to = y.data<double>() + r * width;
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < width; ++i) sum += row[i];
      const double average = sum / static_cast<double>(width);
      for (int64_t i = 0; i < width; ++i) squares += (row[i] - average) * (row[i] - average);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
      if (mean.defined()) mean.data<double>()[r] = average, inverse_deviation.data<double>()[r] = inverse;
      for (int64_t i = 0; i < width; ++i) to[i] = (row[i] - average) * inverse * pw[i] + (pb ? pb[i] : 0);
    }
  });
}

// x̂ = (x - mean) · inverse;  g = dy · w;  dx = inverse · (g - mean(g) - x̂ · mean(g·x̂));  dw = Σ dy·x̂;  db = Σ dy.
void backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& mean,
              const Tensor& inverse_deviation, const Tensor& dy, GradientTarget dx, GradientTarget dweight,
              GradientTarget dbias) {
  if (x.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(layer_norm_backward)(device, x, weight, mean, inverse_deviation, dy, dx, dweight,
                                                     dbias);
  }
  const int64_t width = x.dim(-1);
  const double* px = x.data<double>();
  const double* pw = weight.data<double>();
  const double* pdy = dy.data<double>();
  const double* means = mean.data<double>();
  const double* inverses = inverse_deviation.data<double>();
  ColumnSums<double> columns(device, x.rows(), 2 * width);
  columns.for_chunks([&](int64_t begin, int64_t end, double* partial) {
    for (int64_t r = begin; r < end; ++r) {
      double sum = 0, dot = 0;
      for (int64_t at = r * width, i = 0; i < width; ++i, ++at) {
        const double normal = (px[at] - means[r]) * inverses[r];
        sum += pdy[at] * pw[i];
        dot += pdy[at] * pw[i] * normal;
        partial[i] += pdy[at] * normal;
        partial[width + i] += pdy[at];
      }
      sum /= static_cast<double>(width);
      dot /= static_cast<double>(width);
      if (!dx.tensor.defined()) continue;
      double* to = dx.tensor.data<double>() + r * width;
      for (int64_t at = r * width, i = 0; i < width; ++i, ++at) {
        const double normal = (px[at] - means[r]) * inverses[r];
        write(to[i], inverses[r] * (pdy[at] * pw[i] - sum - normal * dot), dx.accumulate);
      }
    }
  });
  columns.add_to(dweight, 0);
  columns.add_to(dbias, width);
}

}  // namespace

LayerNormKernels layer_norm_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
#endif
