#include "kernels/cpu/cpu_kernels.h"

#include <cstring>

namespace troupe::kernels::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;

template <class From, class To>
void convert_range(const From* from, To* to, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    if constexpr (std::is_same_v<From, bf16>) to[i] = static_cast<To>(static_cast<float>(from[i]));
    else if constexpr (std::is_same_v<To, bf16>) to[i] = bf16(static_cast<float>(from[i]));
    else to[i] = static_cast<To>(from[i]);
  }
}

void convert(Device& device, const Tensor& from, Tensor& to) {
  TROUPE_CHECK(from.elements() == to.elements(), "convert {} into {}", from.shape().to_string(),
               to.shape().to_string());
  if (from.dtype() == to.dtype()) {
    const int64_t size = size_of(from.dtype());
    device.threads().parallel_ranges(from.elements(), kGrain, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<std::byte*>(to.raw()) + begin * size,
                  static_cast<const std::byte*>(from.raw()) + begin * size, static_cast<size_t>((end - begin) * size));
    });
    return;
  }
  dispatch_float(from.dtype(), [&]<class From>() {
    dispatch_float(to.dtype(), [&]<class To>() {
      device.threads().parallel_ranges(from.elements(), kGrain, [&](int64_t begin, int64_t end) {
        convert_range(from.data<From>(), to.data<To>(), begin, end);
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
  dispatch_float(from.dtype(), [&]<class From>() {
    dispatch_float(to.dtype(), [&]<class To>() {
      using Sum = std::conditional_t<std::is_same_v<From, double> || std::is_same_v<To, double>, double, float>;
      device.threads().parallel_ranges(from.elements(), kGrain, [&](int64_t begin, int64_t end) {
        const From* a = from.data<From>();
        To* b = to.data<To>();
        for (int64_t i = begin; i < end; ++i) b[i] = static_cast<To>(static_cast<Sum>(a[i]) + static_cast<Sum>(b[i]));
      });
    });
  });
}

}  // namespace

TensorKernels tensor_kernels() { return {.convert = convert, .fill_zero = fill_zero, .add_into = add_into}; }

}  // namespace troupe::kernels::cpu
