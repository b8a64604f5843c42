// Attention in parts: joining what was found over several sets of keys.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/attention_low.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {

void join_attention(Device& device, const Tensor& o, const AttentionStatistics& part, Tensor& sum, Tensor& lse) {
  const int64_t B = o.dim(0), T = o.dim(1), H = o.dim(2), d = o.dim(3), K = lse.dim(1), G = lse.dim(3);
  TROUPE_CHECK(lse.shape() == Shape({B, K, T, G}) && K * G == H && part.lse.shape() == lse.shape(),
               "attention: statistics {} and {} for an output {}", lse.shape().to_string(),
               part.lse.shape().to_string(), o.shape().to_string());
  dispatch_float(o.dtype(), [&]<class Element>() {
    using Sum = Accumulator<Element>;
    const Element* from = o.data<Element>();
    const uint8_t* low = part.o_low.defined() ? part.o_low.data<uint8_t>() : nullptr;
    const Sum* part_lse = part.lse.data<Sum>();
    Sum *to = sum.data<Sum>(), *all_lse = lse.data<Sum>();
    device.threads().parallel_ranges(B * T, row_grain(H * d), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t h = 0; h < H; ++h) {
          const int64_t at_lse = ((row / T * K + h / G) * T + row % T) * G + h % G, at = (row * H + h) * d;
          const Sum a = all_lse[at_lse], b = part_lse[at_lse];
          if (b == -std::numeric_limits<Sum>::infinity()) continue;
          const Sum both = std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
          const Sum keep = std::exp(a - both), take = std::exp(b - both);
          for (int64_t c = at; c < at + d; ++c)
            to[c] = keep * to[c] + take * static_cast<Sum>(low ? with_low(from[c], low[c]) : read<Sum>(from[c]));
          all_lse[at_lse] = both;
        }
      }
    });
  });
}

void round_attention(Device& device, const Tensor& sum, Tensor& o, Tensor& o_low) {
  dispatch_float(o.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const Sum* from = sum.data<Sum>();
    T* to = o.data<T>();
    uint8_t* low = o_low.defined() ? o_low.data<uint8_t>() : nullptr;
    parallel_elements(device, o.elements(), 1 << 13, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        to[i] = static_cast<T>(from[i]);
        if (low) low[i] = low_bits(from[i], to[i]);
      }
    });
  });
}

}  // namespace troupe::kernels::cpu
