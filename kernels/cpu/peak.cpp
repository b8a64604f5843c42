#include "kernels/cpu/peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/peak.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/isa.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Twelve chains hide the latency of a fused multiply-add on every CPU. Returns the FLOPs done; the sum
// goes to `sink`, or the compiler would leave the loop out.
template <class T>
int64_t fma_loop(int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  const hn::ScalableTag<T> d;
  // Unknown to the compiler, or it would compute a chain that stands still itself.
  const auto factor = hn::Set(d, static_cast<T>(1 - 1 / (1e3 + static_cast<double>(rounds)))),
             term = hn::Set(d, T(1e-3));
  hn::Vec<decltype(d)> chain[kChains];
  HWY_UNROLL(kChains)
  for (int i = 0; i < kChains; ++i) chain[i] = hn::Set(d, static_cast<T>(i));
  for (int64_t round = 0; round < rounds; ++round) {
    HWY_UNROLL(kChains)
    for (int i = 0; i < kChains; ++i) chain[i] = hn::MulAdd(chain[i], factor, term);
  }
  for (int i = 1; i < kChains; ++i) chain[0] = hn::Add(chain[0], chain[i]);
  *sink = static_cast<float>(hn::GetLane(chain[0]));
  return rounds * kChains * 2 * static_cast<int64_t>(hn::Lanes(d));
}
int64_t fma_loop_f32(int64_t rounds, float* sink) { return fma_loop<float>(rounds, sink); }
int64_t fma_loop_f64(int64_t rounds, float* sink) { return fma_loop<double>(rounds, sink); }

// Reads `count` floats, a multiple of 128.
float read_loop(const float* from, int64_t count) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i < count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, from + i));
    b = hn::Add(b, hn::LoadU(d, from + i + lanes));
    c = hn::Add(c, hn::LoadU(d, from + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, from + i + 3 * lanes));
  }
  return hn::GetLane(hn::Add(hn::Add(a, b), hn::Add(c, e)));
}

}  // namespace troupe::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(fma_loop_f32);
HWY_EXPORT(fma_loop_f64);
HWY_EXPORT(read_loop);

double seconds_of(ThreadPool& threads, const std::function<void(int64_t)>& body) {
  const auto start = std::chrono::steady_clock::now();
  threads.parallel_for(threads.size(), body);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double measure_fma_peak(ThreadPool& threads, DType type) {
  constexpr int kRuns = 12;
  constexpr int64_t kRounds = 400'000;
  const bool dot = type == DType::bf16 && has_bf16_dot();
  std::vector<float> sinks(static_cast<size_t>(threads.size()) * 16);
  // Each thread's own best: where others want the cores too, not all threads have theirs at the same moment.
  std::vector<double> best(static_cast<size_t>(threads.size()) * 8);
  for (int run = 0; run < kRuns; ++run) {
    threads.parallel_for(threads.size(), [&](int64_t i) {
      float* sink = &sinks[static_cast<size_t>(i) * 16];
      const auto start = std::chrono::steady_clock::now();
      const int64_t flops = dot                  ? bf16_dot_loop(kRounds, sink)
                            : type == DType::f64 ? HWY_DYNAMIC_DISPATCH(fma_loop_f64)(kRounds, sink)
                                                 : HWY_DYNAMIC_DISPATCH(fma_loop_f32)(kRounds, sink);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      double& mine = best[static_cast<size_t>(i) * 8];
      mine = std::max(mine, static_cast<double>(flops) / seconds);
    });
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

double measure_read_bandwidth(ThreadPool& threads) {
  constexpr int kRuns = 12;
  const int64_t part = (int64_t{64} << 20) / threads.size() / 128 * 128;  // floats for each thread
  std::vector<float> buffer(static_cast<size_t>(part * threads.size()), 1.0f);
  std::vector<float> sinks(static_cast<size_t>(threads.size()) * 16);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double seconds = seconds_of(threads, [&](int64_t i) {
      sinks[static_cast<size_t>(i) * 16] = HWY_DYNAMIC_DISPATCH(read_loop)(buffer.data() + i * part, part);
    });
    best = std::max(best, static_cast<double>(buffer.size() * sizeof(float)) / seconds);
  }
  return best;
}

}  // namespace troupe::kernels::cpu
#endif
