// Rows that are copied, weighed and added. Tokens are the unit of work: nothing is summed over them.
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void order(Device&, const Tensor& experts, Tensor& tokens, Tensor& places, Tensor& counts) {
  const int64_t slots = experts.elements(), k = experts.dim(-1), E = counts.elements();
  const int32_t* chosen = experts.data<int32_t>();
  int64_t* count = counts.data<int64_t>();
  std::fill(count, count + E, int64_t{0});
  for (int64_t i = 0; i < slots; ++i) {
    TROUPE_CHECK(chosen[i] >= -1 && chosen[i] < E, "expert {} of {} for token {}", chosen[i], E, i / k);
    if (chosen[i] >= 0) ++count[chosen[i]];
  }
  std::vector<int64_t> next(static_cast<size_t>(E) + 1, 0);
  for (int64_t e = 0; e < E; ++e) next[static_cast<size_t>(e) + 1] = next[static_cast<size_t>(e)] + count[e];
  for (int64_t i = 0; i < slots; ++i) {
    if (chosen[i] < 0) {
      places.data<int32_t>()[i] = -1;
      continue;
    }
    const int64_t row = next[static_cast<size_t>(chosen[i])]++;
    places.data<int32_t>()[i] = static_cast<int32_t>(row);
    tokens.data<int32_t>()[row] = static_cast<int32_t>(i / k);
  }
}

void gather(Device& device, const Tensor& x, const Tensor& index, Tensor& y) {
  const int64_t width = x.dim(-1), bytes = width * size_of(x.dtype());
  const int32_t* from = index.data<int32_t>();
  device.threads().parallel_ranges(index.elements(), row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      std::byte* to = static_cast<std::byte*>(y.raw()) + m * bytes;
      if (from[m] < 0) std::memset(to, 0, static_cast<size_t>(bytes));
      else std::memcpy(to, static_cast<const std::byte*>(x.raw()) + from[m] * bytes, static_cast<size_t>(bytes));
    }
  });
}

template <class A>
A weight_of(const Tensor& weights, int64_t slot) {
  return weights.defined() ? weights.data<A>()[slot] : A(1);
}

void combine(Device& device, const Tensor& rows, const Tensor& places, const Tensor& weights, Tensor& y) {
  const int64_t width = rows.dim(-1), k = places.dim(-1);
  const int32_t* place = places.data<int32_t>();
  dispatch_float(rows.dtype(), [&]<class T>() {
    using A = Accumulator<T>;
    device.threads().parallel_ranges(places.dim(0), row_grain(k * width), [&](int64_t begin, int64_t end) {
      std::vector<A> sums(static_cast<size_t>(width));
      for (int64_t t = begin; t < end; ++t) {
        std::fill(sums.begin(), sums.end(), A(0));
        for (int64_t slot = t * k; slot < (t + 1) * k; ++slot) {
          if (place[slot] < 0) continue;
          const A w = weight_of<A>(weights, slot);
          const T* row = rows.data<T>() + place[slot] * width;
          for (int64_t i = 0; i < width; ++i) sums[static_cast<size_t>(i)] += w * read<A>(row[i]);
        }
        T* to = y.data<T>() + t * width;
        for (int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(sums[static_cast<size_t>(i)]);
      }
    });
  });
}

void spread(Device& device, const Tensor& dy, const Tensor& places, const Tensor& weights, Tensor& drows) {
  const int64_t width = dy.dim(-1), k = places.dim(-1);
  const int32_t* place = places.data<int32_t>();
  dispatch_float(dy.dtype(), [&]<class T>() {
    using A = Accumulator<T>;
    device.threads().parallel_ranges(places.elements(), row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot) {
        if (place[slot] < 0) continue;
        const A w = weight_of<A>(weights, slot);
        const T* from = dy.data<T>() + slot / k * width;
        T* to = drows.data<T>() + place[slot] * width;
        for (int64_t i = 0; i < width; ++i) to[i] = static_cast<T>(w * read<A>(from[i]));
      }
    });
  });
}

void dots(Device& device, const Tensor& rows, const Tensor& dy, const Tensor& places, Tensor& dweights) {
  const int64_t width = dy.dim(-1), k = places.dim(-1);
  const int32_t* place = places.data<int32_t>();
  dispatch_float(dy.dtype(), [&]<class T>() {
    using A = Accumulator<T>;
    device.threads().parallel_ranges(places.elements(), row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot) {
        A sum = 0;
        const T* d = dy.data<T>() + slot / k * width;
        const T* row = place[slot] < 0 ? nullptr : rows.data<T>() + place[slot] * width;
        for (int64_t i = 0; row != nullptr && i < width; ++i) sum += read<A>(row[i]) * read<A>(d[i]);
        dweights.data<A>()[slot] = sum;
      }
    });
  });
}

}  // namespace

PermutationKernels permutation_kernels() {
  return {.order = order, .gather = gather, .combine = combine, .spread = spread, .dots = dots};
}

}  // namespace troupe::kernels::cpu
