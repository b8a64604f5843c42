// What the scalar references share: reading any floating dtype in its accumulator's, writing it back, and
// cutting rows into chunks that do not depend on the threads.
#pragma once
#include <algorithm>
#include <type_traits>

#include "kernels/ops/kernels.h"

namespace troupe::kernels::cpu {

// The accumulator for arithmetic between elements of several types.
template <class... T>
using Wider = std::conditional_t<(std::is_same_v<T, double> || ...), double, float>;

template <class A, class T>
A read(T value) {
  if constexpr (std::is_same_v<T, bf16>) return static_cast<A>(static_cast<float>(value));
  else return static_cast<A>(value);
}

template <class T, class A>
void write(T& to, A value, bool accumulate) {
  to = static_cast<T>(accumulate ? read<A>(to) + value : value);
}

// Sums over rows are made per chunk and joined in the chunks' order: the result is the same on any number
// of threads. At most 64 chunks of at least 16 rows.
struct RowChunks {
  explicit RowChunks(int64_t row_count)
      : rows(row_count),
        length(std::max<int64_t>(16, (row_count + 63) / 64)),
        count((row_count + length - 1) / length) {}
  int64_t begin(int64_t chunk) const { return chunk * length; }
  int64_t end(int64_t chunk) const { return std::min(rows, (chunk + 1) * length); }
  int64_t rows;
  int64_t length;
  int64_t count;
};

// Calls body(begin, end) on pieces of [0, count) that are cut at multiples of 256 elements.
template <class Body>
void parallel_elements(Device& device, int64_t count, int64_t grain, const Body& body) {
  constexpr int64_t kUnit = 256;
  device.threads().parallel_ranges(
      (count + kUnit - 1) / kUnit, (grain + kUnit - 1) / kUnit,
      [&](int64_t begin, int64_t end) { body(begin * kUnit, std::min(count, end * kUnit)); });
}

// About how many rows of `width` elements are worth waking a thread for.
inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(width, 1)); }

}  // namespace troupe::kernels::cpu
