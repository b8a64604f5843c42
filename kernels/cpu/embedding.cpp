#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

template <class From, class To>
void convert_row(const From* from, To* to, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR { store(part, load(part, from + i), to + i); });
}

template <class Y>
void add_row(const Y* from, float* to, int64_t count) {
  for_vectors(count, [&](int64_t i, auto part, auto)
                         HWY_ATTR { store(part, load(part, to + i) + load(part, from + i), to + i); });
}

void embedding_forward(Device& device, const Tensor& tokens, const Tensor& table, Tensor& y) {
  const int64_t width = table.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  dispatch_fast(table.dtype(), [&]<class W>() {
    dispatch_fast(y.dtype(), [&]<class Y>() {
      device.threads().parallel_ranges(tokens.elements(), row_grain(width), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          Y* row = y.data<Y>() + t * width;
          if (ids[t] < 0) std::memset(static_cast<void*>(row), 0, static_cast<size_t>(width) * sizeof(Y));
          else convert_row(table.data<W>() + ids[t] * width, row, width);
        }
      });
    });
  });
}

void embedding_add_columns(const Tensor& tokens, const Tensor& dy, Tensor& dtable, int64_t first, int64_t last) {
  const int64_t width = dtable.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  dispatch_fast(dy.dtype(), [&]<class Y>() {
    for (int64_t t = 0; t < tokens.elements(); ++t) {
      if (ids[t] < 0) continue;
      add_row(dy.data<Y>() + t * width + first, dtable.data<float>() + ids[t] * width + first, last - first);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(embedding_forward);
HWY_EXPORT(embedding_add_columns);

void forward(Device& device, const Tensor& tokens, const Tensor& table, Tensor& y) {
  const int64_t width = table.dim(1);
  const int32_t* ids = tokens.data<int32_t>();
  for (int64_t t = 0; t < tokens.elements(); ++t) {
    TROUPE_CHECK(ids[t] < table.dim(0), "embedding: token {} at index {}, the table has {} rows", ids[t], t,
                 table.dim(0));
  }
  if (table.dtype() != DType::f64) return HWY_DYNAMIC_DISPATCH(embedding_forward)(device, tokens, table, y);
  device.threads().parallel_ranges(tokens.elements(), row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      double* row = y.data<double>() + t * width;
      const auto bytes = static_cast<size_t>(width) * sizeof(double);
      if (ids[t] < 0) std::memset(row, 0, bytes);
      else std::memcpy(row, table.data<double>() + ids[t] * width, bytes);
    }
  });
}

// Each piece owns columns, so that every element of the table sums in the tokens' order.
void backward(Device& device, const Tensor& tokens, const Tensor& dy, GradientTarget dtable) {
  constexpr int64_t kColumns = 64;
  const int64_t width = dtable.tensor.dim(1);
  if (!dtable.accumulate) dtable.tensor.fill_zero();
  const int64_t grain = std::max<int64_t>(1, (1 << 13) / (kColumns * std::max<int64_t>(tokens.elements(), 1)));
  device.threads().parallel_ranges((width + kColumns - 1) / kColumns, grain, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumns;
    const int64_t last = std::min(width, end * kColumns);
    if (dy.dtype() != DType::f64) {
      return HWY_DYNAMIC_DISPATCH(embedding_add_columns)(tokens, dy, dtable.tensor, first, last);
    }
    const int32_t* ids = tokens.data<int32_t>();
    for (int64_t t = 0; t < tokens.elements(); ++t) {
      for (int64_t i = first; ids[t] >= 0 && i < last; ++i) {
        dtable.tensor.data<double>()[ids[t] * width + i] += dy.data<double>()[t * width + i];
      }
    }
  });
}

}  // namespace

EmbeddingKernels embedding_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
#endif
