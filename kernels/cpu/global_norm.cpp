#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/global_norm.cpp"
#include <hwy/foreach_target.h>

#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

// f32 squares can overflow, so both the squares and their sum are f64.
template <class X>
double squares_of(const X* x, int64_t count) {
  using D = hn::Repartition<double, F>;
  using H = hn::Half<F>;
  hn::Vec<D> low[4], high[4];
  for (int k = 0; k < 4; ++k) low[k] = high[k] = hn::Zero(D());
  for_vectors(count, [&](int64_t i, auto part, auto k) HWY_ATTR {
    const VF v = load(part, x + i);
    const auto a = hn::PromoteTo(D(), hn::LowerHalf(H(), v));
    const auto b = hn::PromoteTo(D(), hn::UpperHalf(H(), v));
    low[k] = hn::MulAdd(a, a, low[k]);
    high[k] = hn::MulAdd(b, b, high[k]);
  });
  for (int k = 0; k < 4; ++k) low[k] = low[k] + high[k];
  return hn::GetLane(hn::SumOfLanes(D(), (low[0] + low[1]) + (low[2] + low[3])));
}

double squares_of_range(const Tensor& values, int64_t begin, int64_t end) {
  double sum = 0;
  dispatch_fast(values.dtype(), [&]<class X>() { sum = squares_of(values.data<X>() + begin, end - begin); });
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(squares_of_range);

constexpr int64_t kChunk = 1 << 15;

double sum_of_squares(Device& device, const Tensor& values) {
  const int64_t count = values.elements();
  std::vector<double> sums(static_cast<size_t>((count + kChunk - 1) / kChunk));
  device.threads().parallel_for(static_cast<int64_t>(sums.size()), [&](int64_t chunk) {
    const int64_t begin = chunk * kChunk, end = std::min(count, begin + kChunk);
    double& sum = sums[static_cast<size_t>(chunk)];
    if (values.dtype() != DType::f64) {
      sum = HWY_DYNAMIC_DISPATCH(squares_of_range)(values, begin, end);
      return;
    }
    for (int64_t i = begin; i < end; ++i) sum += values.data<double>()[i] * values.data<double>()[i];
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace

GlobalNormKernels global_norm_kernels() { return {.sum_of_squares = sum_of_squares}; }

}  // namespace troupe::kernels::cpu
#endif
