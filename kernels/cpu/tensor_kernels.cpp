#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tensor_kernels.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class From, class To>
void convert_range(const From* from, To* to, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR { store(part, load(part, from + i), to + i); });
}

template <class From, class To>
void add_range(const From* from, To* to, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto)
                         HWY_ATTR { store(part, load(part, from + i) + load(part, to + i), to + i); });
}

void convert_fast(const Tensor& from, Tensor& to, int64_t begin, int64_t end) {
  dispatch_fast(from.dtype(), [&]<class From>() {
    dispatch_fast(to.dtype(),
                  [&]<class To>() { convert_range(from.data<From>() + begin, to.data<To>() + begin, end - begin); });
  });
}

void add_fast(const Tensor& from, Tensor& to, int64_t begin, int64_t end) {
  dispatch_fast(from.dtype(), [&]<class From>() {
    dispatch_fast(to.dtype(),
                  [&]<class To>() { add_range(from.data<From>() + begin, to.data<To>() + begin, end - begin); });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(convert_fast);
HWY_EXPORT(add_fast);

constexpr int64_t kGrain = 1 << 14;

bool is_fast(DType type) { return type == DType::f32 || type == DType::bf16; }

void convert(Device& device, const Tensor& from, Tensor& to) {
  TROUPE_CHECK(from.elements() == to.elements(), "convert {} into {}", from.shape().to_string(),
               to.shape().to_string());
  parallel_elements(device, from.elements(), kGrain, [&](int64_t begin, int64_t end) {
    if (from.dtype() == to.dtype()) {
      const int64_t size = size_of(from.dtype());
      std::memcpy(static_cast<std::byte*>(to.raw()) + begin * size,
                  static_cast<const std::byte*>(from.raw()) + begin * size, static_cast<size_t>((end - begin) * size));
      return;
    }
    if (is_fast(from.dtype()) && is_fast(to.dtype())) return HWY_DYNAMIC_DISPATCH(convert_fast)(from, to, begin, end);
    dispatch_float(from.dtype(), [&]<class From>() {
      dispatch_float(to.dtype(), [&]<class To>() {
        for (int64_t i = begin; i < end; ++i) {
          to.data<To>()[i] = static_cast<To>(read<Wider<From, To>>(from.data<From>()[i]));
        }
      });
    });
  });
}

void fill_zero(Device& device, Tensor& tensor) {
  device.threads().parallel_ranges(tensor.bytes(), kGrain * 4, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<std::byte*>(tensor.raw()) + begin, 0, static_cast<size_t>(end - begin));
  });
}

void add_into(Device& device, const Tensor& from, Tensor& to) {
  TROUPE_CHECK(from.elements() == to.elements(), "add {} into {}", from.shape().to_string(), to.shape().to_string());
  parallel_elements(device, from.elements(), kGrain, [&](int64_t begin, int64_t end) {
    if (is_fast(from.dtype()) && is_fast(to.dtype())) return HWY_DYNAMIC_DISPATCH(add_fast)(from, to, begin, end);
    dispatch_float(from.dtype(), [&]<class From>() {
      dispatch_float(to.dtype(), [&]<class To>() {
        const From* a = from.data<From>();
        To* b = to.data<To>();
        for (int64_t i = begin; i < end; ++i) b[i] = static_cast<To>(read<double>(a[i]) + read<double>(b[i]));
      });
    });
  });
}

void swap_leading(Device& device, const Tensor& from, Tensor& to) {
  TROUPE_CHECK(from.shape().dims() >= 2 && from.elements() == to.elements() && from.dtype() == to.dtype(),
               "swap the leading dimensions of {} into {}", from.shape().to_string(), to.shape().to_string());
  const int64_t first = from.dim(0), second = from.dim(1);
  const int64_t bytes = first * second == 0 ? 0 : from.bytes() / (first * second);
  const int64_t grain = std::max<int64_t>(1, kGrain * 4 / std::max<int64_t>(bytes, 1));
  device.threads().parallel_ranges(first * second, grain, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t j = at / first, i = at % first;  // of the output
      std::memcpy(static_cast<std::byte*>(to.raw()) + at * bytes,
                  static_cast<const std::byte*>(from.raw()) + (i * second + j) * bytes, static_cast<size_t>(bytes));
    }
  });
}

}  // namespace

TensorKernels tensor_kernels() {
  return {.convert = convert, .fill_zero = fill_zero, .add_into = add_into, .swap_leading = swap_leading};
}

}  // namespace troupe::kernels::cpu
#endif
