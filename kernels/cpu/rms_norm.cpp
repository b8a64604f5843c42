#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/norm_scratch.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class X, class Y>
void rms_norm_row(const X* x, const float* weight, int64_t width, float epsilon, Y* y, float* inverse_rms) {
  Sums squares;
  for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
    const VF v = load(part, x + i);
    squares.part[k] = hn::MulAdd(v, v, squares.part[k]);
  });
  const float inverse = 1.0f / std::sqrt(squares.total() / static_cast<float>(width) + epsilon);
  if (inverse_rms) *inverse_rms = inverse;
  const VF scale = hn::Set(F(), inverse);
  for_vectors(width, [&](int64_t i, auto part, auto)
                         HWY_ATTR { store(part, load(part, x + i) * scale * load(part, weight + i), y + i); });
}

void rms_norm_forward(Device& device, const Tensor& x, const Tensor& weight, double epsilon, Tensor& y,
                      Tensor& inverse_rms) {
  const int64_t width = x.dim(-1);
  const WideWeight wide(weight);
  float* inverses = inverse_rms.defined() ? inverse_rms.data<float>() : nullptr;
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_fast(y.dtype(), [&]<class Y>() {
      device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          rms_norm_row(x.data<X>() + r * width, wide.data(), width, static_cast<float>(epsilon),
                       y.data<Y>() + r * width, inverses ? inverses + r : nullptr);
        }
      });
    });
  });
}

// sums += dy · x̂ where wanted; dx written or added to where wanted.
template <class X, class Y>
void rms_norm_backward_row(const X* x, const float* weight, const Y* dy, int64_t width, float inverse, float* sums,
                           X* dx, bool accumulate) {
  const VF scale = hn::Set(F(), inverse);
  Sums dots;
  if (sums) {
    for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
      const VF product = load(part, dy + i) * (load(part, x + i) * scale);
      dots.part[k] = hn::MulAdd(product, load(part, weight + i), dots.part[k]);
      store(part, load(part, sums + i) + product, sums + i);
    });
  } else {
    for_vectors(width, [&](int64_t i, auto part, auto k) HWY_ATTR {
      const VF product = load(part, dy + i) * (load(part, x + i) * scale);
      dots.part[k] = hn::MulAdd(product, load(part, weight + i), dots.part[k]);
    });
  }
  if (!dx) return;
  const VF share = hn::Set(F(), dots.total() / static_cast<float>(width) * inverse * inverse);
  for_vectors(width, [&](int64_t i, auto part, auto) HWY_ATTR {
    const VF g = load(part, dy + i) * load(part, weight + i) * scale;
    store_or_add(part, hn::NegMulAdd(load(part, x + i), share, g), dx + i, accumulate);
  });
}

void rms_norm_backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& inverse_rms,
                       const Tensor& dy, GradientTarget dx, GradientTarget dweight) {
  const int64_t width = x.dim(-1);
  const WideWeight wide(weight);
  const float* inverses = inverse_rms.data<float>();
  ColumnSums<float> sums(device, x.rows(), dweight.tensor.defined() ? width : 0);
  dispatch_fast(x.dtype(), [&]<class X>() {
    dispatch_fast(dy.dtype(), [&]<class Y>() {
      sums.for_chunks([&](int64_t begin, int64_t end, float* partial) {
        for (int64_t r = begin; r < end; ++r) {
          rms_norm_backward_row(x.data<X>() + r * width, wide.data(), dy.data<Y>() + r * width, width, inverses[r],
                                partial, dx.tensor.defined() ? dx.tensor.data<X>() + r * width : nullptr,
                                dx.accumulate);
        }
      });
    });
  });
  sums.add_to(dweight, 0);
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(rms_norm_forward);
HWY_EXPORT(rms_norm_backward);

void forward(Device& device, const Tensor& x, const Tensor& weight, double epsilon, Tensor& y, Tensor& inverse_rms) {
  if (x.dtype() != DType::f64)
    return HWY_DYNAMIC_DISPATCH(rms_norm_forward)(device, x, weight, epsilon, y, inverse_rms);
  const int64_t width = x.dim(-1);
  const double* px = x.data<double>();
  const double* pw = weight.data<double>();
  double* py = y.data<double>();
  double* kept = inverse_rms.defined() ? inverse_rms.data<double>() : nullptr;
  device.threads().parallel_ranges(x.rows(), row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const double* row = px + r * width;
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += row[i] * row[i];
      const double inverse = 1 / std::sqrt(sum / static_cast<double>(width) + epsilon);
      if (kept) kept[r] = inverse;
      for (int64_t i = 0; i < width; ++i) py[r * width + i] = row[i] * inverse * pw[i];
    }
  });
}

// x̂ = x · inverse;  dx = inverse · (dy·w - x̂ · mean(dy·w·x̂));  dw = Σ dy·x̂.
void backward(Device& device, const Tensor& x, const Tensor& weight, const Tensor& inverse_rms, const Tensor& dy,
              GradientTarget dx, GradientTarget dweight) {
  if (x.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(rms_norm_backward)(device, x, weight, inverse_rms, dy, dx, dweight);
  }
  const int64_t width = x.dim(-1);
  const double* px = x.data<double>();
  const double* pw = weight.data<double>();
  const double* pdy = dy.data<double>();
  const double* kept = inverse_rms.data<double>();
  ColumnSums<double> sums(device, x.rows(), width);
  sums.for_chunks([&](int64_t begin, int64_t end, double* partial) {
    for (int64_t r = begin; r < end; ++r) {
      double dot = 0;
      for (int64_t at = r * width, i = 0; i < width; ++i, ++at) {
        const double normal = px[at] * kept[r];
        dot += pdy[at] * pw[i] * normal;
        partial[i] += pdy[at] * normal;
      }
      dot /= static_cast<double>(width);
      if (!dx.tensor.defined()) continue;
      double* to = dx.tensor.data<double>() + r * width;
      for (int64_t at = r * width, i = 0; i < width; ++i, ++at) {
        write(to[i], kept[r] * (pdy[at] * pw[i] - px[at] * kept[r] * dot), dx.accumulate);
      }
    }
  });
  sums.add_to(dweight, 0);
}

}  // namespace

RmsNormKernels rms_norm_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
#endif
