#include "parallel/plan/memory.h"

#include <algorithm>

namespace troupe::parallel {
namespace {

// Bytes of one token.
struct PerToken {
  int64_t attention;     // saved by attention and its norm, without the residual stream
  int64_t feed_forward;  // the same of the feed-forward
  int64_t residual;      // one copy of the residual stream
  int64_t head, loss, backward;
};

PerToken per_token(const DecoderConfig& m, Numerics numerics) {
  const int64_t c = kernels::size_of(numerics.compute), r = kernels::size_of(numerics.residual);
  const int64_t a = kernels::size_of(kernels::accumulator_of(numerics.compute));
  const int64_t q = m.heads * m.head_width, k = m.kv_heads * m.head_width;
  const int64_t statistics = a * (m.norm == NormKind::layer ? 2 : 1);
  const int64_t gated = m.mlp == MlpKind::gelu ? 0 : 1;
  PerToken bytes{};
  bytes.residual = r * m.width;
  bytes.attention = c * m.width + statistics + c * (2 * q + 2 * k) + a * m.heads;
  if (numerics.compute == kernels::DType::bf16) bytes.attention += q;
  // Per-head norms keep what they read, and one statistic a head.
  if (m.qk_norm) bytes.attention += c * (q + k) + a * (m.heads + m.kv_heads);
  bytes.feed_forward = c * m.width + statistics + c * m.hidden * (2 + gated);
  bytes.head = bytes.residual + c * m.width + statistics;
  bytes.loss = c * m.vocabulary + c * m.width + 3 * a;
  bytes.backward = bytes.residual + c * (m.width + m.hidden);
  return bytes;
}

}  // namespace

TrainingMemory training_memory(const DecoderConfig& m, Numerics numerics, int64_t batch, int64_t length,
                               Recompute recompute) {
  const int64_t a = kernels::size_of(kernels::accumulator_of(numerics.compute));
  const int64_t P = m.parameters();
  // Tables that are only looked up, norm weights and biases have no narrow copy.
  int64_t products = m.layers * (m.width * (2 * m.heads + 2 * m.kv_heads) * m.head_width +
                                 (m.mlp == MlpKind::gelu ? 2 : 3) * m.width * m.hidden) +
                     m.vocabulary * m.width;
  if (kernels::size_of(numerics.compute) == a) products = 0;
  TrainingMemory memory;
  memory.parameters = a * P + kernels::size_of(numerics.compute) * products;
  memory.gradients = a * P;
  memory.optimizer = 2 * a * P;

  const PerToken bytes = per_token(m, numerics);
  const int64_t whole = 2 * bytes.residual + bytes.attention + bytes.feed_forward;
  int64_t saved = whole, again = 0;
  if (recompute == Recompute::attention) {
    saved -= bytes.attention;
    again = std::max<int64_t>(0, bytes.attention - bytes.feed_forward);
  } else if (recompute == Recompute::block) {
    saved = bytes.residual;
    again = whole;
  }
  memory.activations = batch * length * (m.layers * saved + std::max(bytes.head + bytes.loss, again + bytes.backward));
  return memory;
}

}  // namespace troupe::parallel
