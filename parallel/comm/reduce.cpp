#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "parallel/comm/reduce.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>

#include "kernels/cpu/simd-inl.h"
#include "parallel/comm/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::parallel {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace cpu = kernels::cpu::HWY_NAMESPACE;

// How elements of T are held in registers: as they are, bf16 as f32.
template <class T>
struct Register {
  using D = hn::ScalableTag<T>;
  static HWY_INLINE hn::Vec<D> load(const T* from) { return hn::LoadU(D(), from); }
  static HWY_INLINE void store(hn::Vec<D> value, T* to) { hn::StoreU(value, D(), to); }
};
template <>
struct Register<kernels::bf16> {
  using D = cpu::F;
  static HWY_INLINE hn::Vec<D> load(const kernels::bf16* from) { return cpu::load(cpu::Whole{}, from); }
  static HWY_INLINE void store(hn::Vec<D> value, kernels::bf16* to) { cpu::store(cpu::Whole{}, value, to); }
};

struct Sum {
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    return hn::Add(a, b);
  }
};
struct Maximum {
  // A NaN stays; equals leave the first.
  template <class V>
  static HWY_INLINE V join(V a, V b) {
    const auto greater = hn::Gt(b, a);
    if constexpr (hwy::IsFloat<hn::TFromV<V>>()) {
      return hn::IfThenElse(hn::Or(greater, hn::IsNaN(b)), b, a);
    } else {
      return hn::IfThenElse(greater, b, a);
    }
  }
};

// Elements [i, i + kVectors · lanes) of all outputs.
template <class T, class Join, int kVectors>
HWY_INLINE void reduce_vectors(std::span<const std::byte* const> inputs, std::span<std::byte* const> outputs,
                               int64_t i) {
  using R = Register<T>;
  const auto step = static_cast<int64_t>(hn::Lanes(typename R::D()));
  hn::Vec<typename R::D> v[kVectors];
  const T* first = reinterpret_cast<const T*>(inputs[0]) + i;
  for (int j = 0; j < kVectors; ++j) v[j] = R::load(first + j * step);
  for (size_t k = 1; k < inputs.size(); ++k) {
    const T* from = reinterpret_cast<const T*>(inputs[k]) + i;
    for (int j = 0; j < kVectors; ++j) v[j] = Join::join(v[j], R::load(from + j * step));
  }
  for (std::byte* output : outputs) {
    T* to = reinterpret_cast<T*>(output) + i;
    for (int j = 0; j < kVectors; ++j) R::store(v[j], to + j * step);
  }
}

template <class T, class Join>
void reduce_range(std::span<const std::byte* const> inputs, std::span<std::byte* const> outputs, int64_t count) {
  using D = typename Register<T>::D;
  constexpr size_t kMost = hn::MaxLanes(D());
  const auto step = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) reduce_vectors<T, Join, 4>(inputs, outputs, i);
  for (; i + step <= count; i += step) reduce_vectors<T, Join, 1>(inputs, outputs, i);
  if (i == count) return;
  // The tail, through the same instructions on copies that are a vector long.
  HWY_ALIGN T sum[kMost] = {}, next[kMost] = {};
  const size_t bytes = static_cast<size_t>(count - i) * sizeof(T);
  std::memcpy(sum, inputs[0] + i * static_cast<int64_t>(sizeof(T)), bytes);
  auto v = Register<T>::load(sum);
  for (const std::byte* input : inputs.subspan(1)) {
    std::memcpy(next, input + i * static_cast<int64_t>(sizeof(T)), bytes);
    v = Join::join(v, Register<T>::load(next));
  }
  Register<T>::store(v, sum);
  for (std::byte* output : outputs) std::memcpy(output + i * static_cast<int64_t>(sizeof(T)), sum, bytes);
}

template <class T>
void reduce_any(Reduction reduction, std::span<const std::byte* const> inputs, std::span<std::byte* const> outputs,
                int64_t count) {
  reduction == Reduction::sum ? reduce_range<T, Sum>(inputs, outputs, count)
                              : reduce_range<T, Maximum>(inputs, outputs, count);
}

void reduce_here(kernels::DType dtype, Reduction reduction, std::span<const std::byte* const> inputs,
                 std::span<std::byte* const> outputs, int64_t count) {
  using kernels::DType;
  switch (dtype) {
    case DType::f64: return reduce_any<double>(reduction, inputs, outputs, count);
    case DType::f32: return reduce_any<float>(reduction, inputs, outputs, count);
    case DType::bf16: return reduce_any<kernels::bf16>(reduction, inputs, outputs, count);
    case DType::i64: return reduce_any<int64_t>(reduction, inputs, outputs, count);
    case DType::i32: return reduce_any<int32_t>(reduction, inputs, outputs, count);
    case DType::u8: break;
  }
  TROUPE_CHECK(false, "{} is not reduced", name_of(dtype));
}

void copy_past_cache_here(std::byte* to, const std::byte* from, int64_t bytes) {
  const hn::ScalableTag<uint8_t> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  auto* out = reinterpret_cast<uint8_t*>(to);
  const auto* in = reinterpret_cast<const uint8_t*>(from);
  int64_t i = 0;
  for (; i + 2 * step <= bytes; i += 2 * step) {
    const auto a = hn::LoadU(d, in + i), b = hn::LoadU(d, in + i + step);
    hn::Stream(a, d, out + i);
    hn::Stream(b, d, out + i + step);
  }
  std::memcpy(out + i, in + i, static_cast<size_t>(bytes - i));
  hwy::FlushStream();  // streaming stores are not ordered by a release
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::parallel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::parallel {
namespace {
HWY_EXPORT(reduce_here);
HWY_EXPORT(copy_past_cache_here);
}  // namespace

void copy_past_cache(std::byte* to, const std::byte* from, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(copy_past_cache_here)(to, from, bytes);
}

void reduce_in_order(kernels::DType dtype, Reduction reduction, std::span<const std::byte* const> inputs,
                     std::span<std::byte* const> outputs, int64_t count) {
  HWY_DYNAMIC_DISPATCH(reduce_here)(dtype, reduction, inputs, outputs, count);
}

}  // namespace troupe::parallel
#endif
