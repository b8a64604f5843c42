#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

#ifndef TROUPE_KERNELS_CPU_ADAMW_FACTORS
#define TROUPE_KERNELS_CPU_ADAMW_FACTORS
namespace troupe::kernels::cpu {

// What a step multiplies by, once the bias corrections 1 - βᵗ are known; computed in f64.
template <class A>
struct AdamWFactors {
  explicit AdamWFactors(const AdamWStep& s)
      : beta1(static_cast<A>(s.beta1)),
        beta2(static_cast<A>(s.beta2)),
        rest1(static_cast<A>(1 - s.beta1)),
        rest2(static_cast<A>(1 - s.beta2)),
        scale(static_cast<A>(s.gradient_scale)),
        epsilon(static_cast<A>(s.epsilon)),
        keep(static_cast<A>(1 - s.learning_rate * s.weight_decay)),
        rate(static_cast<A>(s.learning_rate / (1 - std::pow(s.beta1, static_cast<double>(s.step))))),
        root(static_cast<A>(1 / std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step))))) {}
  A beta1, beta2, rest1, rest2, scale, epsilon, keep, rate, root;
};

}  // namespace troupe::kernels::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class C>
void adamw_range(const AdamWFactors<float>& s, const float* gradient, float* master, float* first, float* second,
                 C* compute, int64_t count) {
  const F f;
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
    const VF g = load(part, gradient + i) * hn::Set(f, s.scale);
    const VF m = hn::MulAdd(hn::Set(f, s.beta1), load(part, first + i), hn::Set(f, s.rest1) * g);
    const VF v = hn::MulAdd(hn::Set(f, s.beta2), load(part, second + i), hn::Set(f, s.rest2) * g * g);
    const VF update = hn::Set(f, s.rate) * m / hn::MulAdd(hn::Sqrt(v), hn::Set(f, s.root), hn::Set(f, s.epsilon));
    const VF p = hn::MulSub(load(part, master + i), hn::Set(f, s.keep), update);
    store(part, m, first + i);
    store(part, v, second + i);
    store(part, p, master + i);
    if (compute) store(part, p, compute + i);
  });
}

void adamw_fast(Device& device, const AdamWStep& step, const Tensor& gradient, Tensor& master, Tensor& first_moment,
                Tensor& second_moment, Tensor& compute) {
  const AdamWFactors<float> factors(step);
  dispatch_fast(compute.defined() ? compute.dtype() : DType::f32, [&]<class C>() {
    parallel_elements(device, master.elements(), 1 << 13, [&](int64_t begin, int64_t end) {
      adamw_range(factors, gradient.data<float>() + begin, master.data<float>() + begin,
                  first_moment.data<float>() + begin, second_moment.data<float>() + begin,
                  compute.defined() ? compute.data<C>() + begin : nullptr, end - begin);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(adamw_fast);

void step(Device& device, const AdamWStep& options, const Tensor& gradient, Tensor& master, Tensor& first_moment,
          Tensor& second_moment, Tensor& compute) {
  if (master.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(adamw_fast)(device, options, gradient, master, first_moment, second_moment, compute);
  }
  const AdamWFactors<double> s(options);
  double* p = master.data<double>();
  double* m = first_moment.data<double>();
  double* v = second_moment.data<double>();
  parallel_elements(device, master.elements(), 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double g = gradient.data<double>()[i] * s.scale;
      m[i] = s.beta1 * m[i] + s.rest1 * g;
      v[i] = s.beta2 * v[i] + s.rest2 * g * g;
      p[i] = p[i] * s.keep - s.rate * m[i] / (std::sqrt(v[i]) * s.root + s.epsilon);
    }
  });
  if (compute.defined()) device.kernels().tensor.convert(device, master, compute);
}

}  // namespace

AdamWKernels adamw_kernels() { return {.step = step}; }

}  // namespace troupe::kernels::cpu
#endif
