// What every backend of Communicator has to do, written once (conformance_*.cpp) and run over worlds of threads
// and of processes. Values are a function of (seed, rank, index), so that every rank knows what must come out.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace troupe::parallel {

using kernels::Device;
using kernels::DType;
using kernels::Tensor;

// A backend with a number of ranks.
class World {
 public:
  virtual ~World() = default;
  virtual std::string name() const = 0;  // "threads3"
  virtual int size() const = 0;
  // Makes a group of all ranks and calls `body` with every rank's end that lives in this process; returns when all
  // those calls have. A body's exception fails the test.
  virtual void run(const std::function<void(Communicator&, Device&)>& body, CommunicatorOptions options = {}) = 0;
};

// `size` threads of this process.
std::shared_ptr<World> thread_world(int size);
// One thread, through make_self_communicator.
std::shared_ptr<World> self_world();

// Tests of groups that work, run over every world; and of how groups of two ranks or more end.
class Conformance : public testing::TestWithParam<std::shared_ptr<World>> {
 protected:
  World& world() { return *GetParam(); }
};
class Failures : public Conformance {};

inline std::string world_name(const testing::TestParamInfo<std::shared_ptr<World>>& info) { return info.param->name(); }

// --- values ---

uint64_t hash(uint64_t seed, int64_t rank, int64_t index);

// Floats of many magnitudes, so that sums in another order have other bits; integers of all bits.
template <class T>
T value_of(uint64_t seed, int64_t rank, int64_t index) {
  const uint64_t bits = hash(seed, rank, index);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);
  } else {
    const double fraction = static_cast<double>(bits >> 11) * 0x1p-53 - 0.5;
    return static_cast<T>(fraction * static_cast<double>(1 << (bits % 17)));
  }
}

template <class T>
T reduced(Reduction reduction, uint64_t seed, int ranks, int64_t index) {
  using A = std::conditional_t<std::is_same_v<T, kernels::bf16>, float, T>;
  A total = static_cast<A>(value_of<T>(seed, 0, index));
  for (int r = 1; r < ranks; ++r) {
    const A next = static_cast<A>(value_of<T>(seed, r, index));
    if (reduction == Reduction::maximum) {
      total = next > total ? next : total;
    } else if constexpr (std::is_integral_v<A>) {
      total = static_cast<A>(static_cast<std::make_unsigned_t<A>>(total) + static_cast<std::make_unsigned_t<A>>(next));
    } else {
      total += next;
    }
  }
  return static_cast<T>(total);
}

// A tensor of `elements` that begins `skip` elements into its storage.
inline Tensor unaligned(Device& device, DType dtype, int64_t elements, int64_t skip) {
  return Tensor::zeros(device, dtype, {elements + skip}).slice(skip, skip + elements);
}

template <class T>
void fill(const Tensor& x, uint64_t seed, int64_t rank, int64_t first = 0) {
  T* data = x.data<T>();
  for (int64_t i = 0; i < x.elements(); ++i) data[i] = value_of<T>(seed, rank, first + i);
}

// Bit for bit; says where the first difference is.
template <class T, class Expected>
void expect_bits(const Tensor& x, const Expected& expected, const std::string& what) {
  const T* data = x.data<T>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    const T wanted = expected(i);
    if (std::memcmp(&wanted, data + i, sizeof(T)) == 0) continue;
    ADD_FAILURE() << what << ": element " << i << " of " << x.elements() << " is " << static_cast<double>(data[i])
                  << ", not " << static_cast<double>(wanted);
    return;
  }
}

// Calls body.operator()<T>() for every element type; the reducible ones first.
template <class Body>
void for_each_reducible(const Body& body) {
  body.template operator()<double>();
  body.template operator()<float>();
  body.template operator()<kernels::bf16>();
  body.template operator()<int64_t>();
  body.template operator()<int32_t>();
}
template <class Body>
void for_each_type(const Body& body) {
  for_each_reducible(body);
  body.template operator()<uint8_t>();
}

// Sizes of one rank's piece: none, less than a vector, odd, and many blocks of every backend's kind; between two ranks
// more than goes in one round of messages.
template <class T>
std::vector<int64_t> sizes(const Communicator& comm) {
  const int64_t floats = comm.size() == 2 ? (2 << 20) + 17 : comm.size() <= 4 ? (1 << 20) + 1 : 100'003;
  const int64_t large = std::is_same_v<T, float> ? floats : 4099;
  return {0, 1, 2, 63, std::is_same_v<T, kernels::bf16> ? 200'001 : large};
}

// What the operation throws, or "" if it throws nothing.
std::string error_of(const std::function<void()>& operation);

}  // namespace troupe::parallel
