#include "kernels/ops/attention.h"

#include <algorithm>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

void check_arguments(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  TROUPE_CHECK(q.shape().dims() == 4 && k.shape().dims() == 4, "attention: q {}, k {}: [B, T, H, d] and [B, S, K, d]",
               q.shape().to_string(), k.shape().to_string());
  TROUPE_CHECK(k.shape() == v.shape(), "attention: k {}, v {}", k.shape().to_string(), v.shape().to_string());
  TROUPE_CHECK(q.dtype() == k.dtype() && q.dtype() == v.dtype(), "attention: q {}, k {}, v {}", name_of(q.dtype()),
               name_of(k.dtype()), name_of(v.dtype()));
  TROUPE_CHECK(q.dim(0) == k.dim(0) && q.dim(3) == k.dim(3) && k.dim(2) > 0 && q.dim(2) % k.dim(2) == 0,
               "attention: q {} does not go with k {}", q.shape().to_string(), k.shape().to_string());
  TROUPE_CHECK(options.scale >= 0 && options.softcap >= 0, "attention: scale {}, softcap {}", options.scale,
               options.softcap);
  TROUPE_CHECK(options.window >= 0 && (options.window == 0 || options.causal), "attention: a window of {} needs causal",
               options.window);
  TROUPE_CHECK(options.keys >= 0 && options.keys <= k.dim(1), "attention: {} keys in a cache of {}", options.keys,
               k.dim(1));
  TROUPE_CHECK(options.query_offset >= 0, "attention: query_offset {}", options.query_offset);
  if (options.query_offsets.defined()) {
    TROUPE_CHECK(options.query_offsets.dtype() == DType::i32 && options.query_offsets.shape() == Shape({q.dim(0)}),
                 "attention: query_offsets {} for q {}", options.query_offsets.shape().to_string(),
                 q.shape().to_string());
  }
  if (options.first_visible.defined()) {
    TROUPE_CHECK(
        options.first_visible.dtype() == DType::i32 && options.first_visible.shape() == Shape({q.dim(0), q.dim(1)}),
        "attention: first_visible {} for q {}", options.first_visible.shape().to_string(), q.shape().to_string());
  }
}

}  // namespace

AttentionStatistics AttentionStatistics::empty(Device& device, const Tensor& q, const Tensor& k) {
  AttentionStatistics result;
  const Shape rows{q.dim(0), k.dim(2), q.dim(1), q.dim(2) / k.dim(2)};
  result.lse = Tensor::empty(device, accumulator_of(q.dtype()), rows);
  if (q.dtype() == DType::bf16) result.o_low = Tensor::empty(device, DType::u8, q.shape());
  return result;
}

Value attention(Tape& tape, const Value& q, const Value& k, const Value& v, const AttentionOptions& options) {
  check_arguments(q.tensor(), k.tensor(), v.tensor(), options);
  Device& device = tape.device();
  const Tensor query = q.tensor();
  const Tensor key = k.tensor();
  const Tensor value = v.tensor();
  Tensor o = Tensor::empty(device, query.dtype(), query.shape());
  if (!tape.would_record({q, k, v})) {
    device.kernels().attention.forward(device, query, key, value, options, o, nullptr);
    return tape.record("attention", std::move(o), {q, k, v}, {});
  }
  AttentionStatistics statistics = AttentionStatistics::empty(device, query, key);
  device.kernels().attention.forward(device, query, key, value, options, o, &statistics);
  return tape.record("attention", o, {q, k, v}, [query, key, value, o, statistics, options](Backward& back) {
    Tensor dq, dk, dv;
    if (back.wants(0)) dq = Tensor::empty(back.device(), query.dtype(), query.shape());
    if (back.wants(1)) dk = Tensor::empty(back.device(), key.dtype(), key.shape());
    if (back.wants(2)) dv = Tensor::empty(back.device(), value.dtype(), value.shape());
    if (!dq.defined() && !dk.defined() && !dv.defined()) return;
    const auto wanted = [](Tensor& gradient) { return gradient.defined() ? &gradient : nullptr; };
    back.device().kernels().attention.backward(back.device(), query, key, value, o, statistics, back.output_gradient(),
                                               options, wanted(dq), wanted(dk), wanted(dv));
    if (dq.defined()) back.give(0, std::move(dq));
    if (dk.defined()) back.give(1, std::move(dk));
    if (dv.defined()) back.give(2, std::move(dv));
  });
}

int64_t visible_scores(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  const int64_t B = q.dim(0), T = q.dim(1);
  std::vector<int32_t> offsets, first;
  if (options.query_offsets.defined()) offsets = options.query_offsets.to_host<int32_t>();
  if (options.first_visible.defined()) first = options.first_visible.to_host<int32_t>();
  int64_t scores = 0;
  for (int64_t b = 0; b < B; ++b) {
    const int64_t offset = offsets.empty() ? options.query_offset : offsets[static_cast<size_t>(b)];
    const int64_t keys = options.keys > 0 ? options.keys : offsets.empty() ? k.dim(1) : offset + T;
    for (int64_t t = 0; t < T; ++t) {
      const int64_t p = offset + t;
      int64_t low = first.empty() ? 0 : std::max(0, first[static_cast<size_t>(b * T + t)]);
      if (options.window > 0) low = std::max(low, p - options.window + 1);
      scores += std::max<int64_t>(0, (options.causal ? std::min(p + 1, keys) : keys) - low);
    }
  }
  return scores * q.dim(2);
}

}  // namespace troupe::kernels
