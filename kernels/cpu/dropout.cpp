#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"
#include "runtime/base/random.h"

#ifndef TROUPE_KERNELS_CPU_DROPOUT_ROWS
#define TROUPE_KERNELS_CPU_DROPOUT_ROWS
namespace troupe::kernels::cpu {

// Calls body(row, key) for each of the B · T rows, in parallel: every row draws under a key of its own.
template <class Body>
void for_dropout_rows(Device& device, const Tensor& x, const DropoutKey& key, const Tensor& sequence_ids,
                      const Tensor& positions, const Body& body) {
  const int64_t T = x.dim(1);
  const uint64_t base = derive_key(derive_key(key.seed, key.step), key.layer, key.op);
  device.threads().parallel_ranges(x.rows(), row_grain(x.dim(2)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto sequence = static_cast<uint64_t>(sequence_ids.data<int64_t>()[row / T]);
      const auto position = static_cast<uint64_t>(positions.data<int32_t>()[row]);
      body(row, derive_key(base, sequence, position));
    }
  });
}

}  // namespace troupe::kernels::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

using W = hn::RebindToUnsigned<F>;
using VW = hn::Vec<W>;
constexpr size_t kDraws = 4 * hn::MaxLanes(F());

// The upper and the lower words of a · b, lane by lane.
HWY_INLINE void multiply_wide(VW a, VW b, VW& high, VW& low) {
  const hn::RepartitionToWide<W> wide;
  const auto even = hn::MulEven(a, b);
  const auto odd = hn::MulEven(hn::BitCast(W(), hn::ShiftRight<32>(hn::BitCast(wide, a))), b);
  high = hn::OddEven(hn::BitCast(W(), odd), hn::BitCast(W(), hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(W(), hn::ShiftLeft<32>(odd)), hn::BitCast(W(), even));
}

// The words of philox4x32(key, block), philox4x32(key, block + 1), …: one block a lane.
HWY_INLINE void draw(uint64_t key, uint64_t block, uint32_t* words) {
  const W w;
  VW c0 = hn::Iota(w, static_cast<uint32_t>(block)), c1 = hn::Zero(w), c2 = hn::Zero(w), c3 = hn::Zero(w);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    VW high0, low0, high1, low1;
    multiply_wide(c0, hn::Set(w, 0xD2511F53), high0, low0);
    multiply_wide(c2, hn::Set(w, 0xCD9E8D57), high1, low1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(w, k0));
    c1 = low1;
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(w, k1));
    c3 = low0;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, w, words);
}

template <class T>
void dropout_row(const T* x, int64_t width, float probability, float scale, uint64_t key, T* y) {
  HWY_ALIGN uint32_t words[kDraws];
  const int64_t draws = 4 * lanes();
  for (int64_t begin = 0; begin < width; begin += draws) {
    draw(key, static_cast<uint64_t>(begin / 4), words);
    for_vectors(std::min(draws, width - begin), [&](int64_t i, auto part, auto) HWY_ATTR {
      const hn::RebindToSigned<F> i32;
      const auto word = hn::ShiftRight<8>(hn::LoadU(W(), words + i));
      const VF uniform = hn::ConvertTo(F(), hn::BitCast(i32, word)) * hn::Set(F(), 0x1p-24f);
      const VF kept = load(part, x + begin + i) * hn::Set(F(), scale);
      store(part, hn::IfThenZeroElse(uniform < hn::Set(F(), probability), kept), y + begin + i);
    });
  }
}

void dropout_fast(Device& device, const Tensor& x, double probability, const DropoutKey& key,
                  const Tensor& sequence_ids, const Tensor& positions, Tensor& y) {
  const int64_t width = x.dim(2);
  dispatch_fast(x.dtype(), [&]<class T>() {
    for_dropout_rows(device, x, key, sequence_ids, positions, [&](int64_t row, uint64_t row_key) {
      dropout_row(x.data<T>() + row * width, width, static_cast<float>(probability),
                  static_cast<float>(1 / (1 - probability)), row_key, y.data<T>() + row * width);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(dropout_fast);

void apply(Device& device, const Tensor& x, double probability, const DropoutKey& key, const Tensor& sequence_ids,
           const Tensor& positions, Tensor& y) {
  if (x.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(dropout_fast)(device, x, probability, key, sequence_ids, positions, y);
  }
  const int64_t width = x.dim(2);
  for_dropout_rows(device, x, key, sequence_ids, positions, [&](int64_t row, uint64_t row_key) {
    const double* from = x.data<double>() + row * width;
    double* to = y.data<double>() + row * width;
    for (int64_t i = 0; i < width; ++i) {
      const bool drop = uniform(row_key, static_cast<uint64_t>(i)) < static_cast<float>(probability);
      to[i] = drop ? 0 : from[i] / (1 - probability);
    }
  });
}

}  // namespace

DropoutKernels dropout_kernels() { return {.apply = apply}; }

}  // namespace troupe::kernels::cpu
#endif
