#include "launcher/commands/measure_attention.h"

#include <chrono>
#include <ctime>
#include <random>
#include <vector>

#include "kernels/ops/kernels.h"

namespace troupe::launcher {
namespace {

using kernels::AttentionOptions;
using kernels::Device;
using kernels::DType;
using kernels::Tensor;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Each clock's best repetition, after one that warms up.
template <class Body>
void best_of(double seconds, double& wall, double& cpu, Body&& body) {
  using Clock = std::chrono::steady_clock;
  body();
  const Clock::time_point start = Clock::now();
  wall = cpu = 1e300;
  for (int i = 0; i < 3 || std::chrono::duration<double>(Clock::now() - start).count() < seconds; ++i) {
    const Clock::time_point before = Clock::now();
    const double cpu_before = cpu_seconds();
    body();
    cpu = std::min(cpu, cpu_seconds() - cpu_before);
    wall = std::min(wall, std::chrono::duration<double>(Clock::now() - before).count());
  }
}

Tensor random_tensor(Device& device, DType dtype, kernels::Shape shape, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (float& value : values) value = normal(engine);
  return Tensor::from<float>(device, values, shape).to(dtype);
}

}  // namespace

AttentionSpeed measure_attention(Device& device, const AttentionCase& what) {
  const int64_t keys = what.cached + what.tokens;
  const kernels::Shape query{what.batch, what.tokens, what.heads, what.width};
  const kernels::Shape key{what.batch, keys, what.kv_heads, what.width};
  const Tensor q = random_tensor(device, what.dtype, query, 1);
  const Tensor k = random_tensor(device, what.dtype, key, 2);
  const Tensor v = random_tensor(device, what.dtype, key, 3);
  const Tensor d_o = random_tensor(device, what.dtype, query, 4);
  AttentionOptions options;
  options.causal = what.causal;
  options.query_offset = what.cached;
  kernels::AttentionStatistics statistics = kernels::AttentionStatistics::empty(device, q, k);
  Tensor o = Tensor::empty(device, what.dtype, query), dq = Tensor::empty(device, what.dtype, query);
  Tensor dk = Tensor::empty(device, what.dtype, key), dv = Tensor::empty(device, what.dtype, key);
  const kernels::AttentionKernels& attention = device.kernels().attention;

  AttentionSpeed speed;
  const auto scores = static_cast<double>(visible_scores(q, k, options));
  speed.forward_flop = 4 * static_cast<double>(what.width) * scores;
  speed.backward_flop = 10 * static_cast<double>(what.width) * scores;
  speed.key_value_bytes = static_cast<double>(k.bytes() + v.bytes());
  best_of(what.seconds, speed.forward_seconds, speed.forward_cpu_seconds,
          [&] { attention.forward(device, q, k, v, options, o, &statistics); });
  best_of(what.seconds, speed.backward_seconds, speed.backward_cpu_seconds,
          [&] { attention.backward(device, q, k, v, o, statistics, d_o, options, &dq, &dk, &dv); });
  return speed;
}

}  // namespace troupe::launcher
