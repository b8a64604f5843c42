// Attention from its equations, one row at a time: the reference for the fast path, and the f64 kernel.
// Holds one row of scores; backward gives each task all rows of one key head, so every sum has one order.
#include <limits>
#include <vector>

#include "kernels/cpu/attention_job.h"

namespace troupe::kernels::cpu {
namespace {

// A row's scores over the keys it sees. `slope` is d(score)/d(scale · q·k): below 1 under a softcap.
template <class T, class Sum>
void score_row(const AttentionJob& job, int64_t b, int64_t head, const T* q, AttentionJob::Range range, Sum* scores,
               Sum* slope) {
  for (int64_t j = range.begin; j < range.end; ++j) {
    const T* key = static_cast<const T*>(job.k) + job.key_at(b, head, j);
    Sum dot = 0;
    for (int64_t c = 0; c < job.d; ++c) dot += static_cast<Sum>(q[c]) * static_cast<Sum>(key[c]);
    dot *= static_cast<Sum>(job.scale);
    Sum rise = 1;
    if (job.softcap > 0) {
      const Sum squashed = std::tanh(dot / static_cast<Sum>(job.softcap));
      dot = squashed * static_cast<Sum>(job.softcap);
      rise = 1 - squashed * squashed;
    }
    scores[j - range.begin] = dot;
    if (slope) slope[j - range.begin] = rise;
  }
}

template <class T>
void forward_row(const AttentionJob& job, int64_t b, int64_t head, int64_t r) {
  using Sum = Accumulator<T>;
  const AttentionJob::Range range = job.visible(b, r);
  T* o = static_cast<T*>(job.o) + job.row_at(b, head, r);
  Sum* lse = job.lse ? static_cast<Sum*>(job.lse) + job.lse_at(b, head, r) : nullptr;
  if (range.begin >= range.end) {
    std::fill(o, o + job.d, T());
    if (lse) *lse = -std::numeric_limits<Sum>::infinity();
    return;
  }
  std::vector<Sum> scores(static_cast<size_t>(range.end - range.begin));
  score_row(job, b, head, static_cast<const T*>(job.q) + job.row_at(b, head, r), range, scores.data(),
            static_cast<Sum*>(nullptr));
  const Sum largest = *std::max_element(scores.begin(), scores.end());
  std::vector<Sum> sums(static_cast<size_t>(job.d), 0);
  Sum total = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const Sum p = std::exp(scores[i] - largest);
    total += p;
    const T* value = static_cast<const T*>(job.v) + job.key_at(b, head, range.begin + static_cast<int64_t>(i));
    for (int64_t c = 0; c < job.d; ++c) sums[static_cast<size_t>(c)] += p * static_cast<Sum>(value[c]);
  }
  for (int64_t c = 0; c < job.d; ++c) o[c] = static_cast<T>(sums[static_cast<size_t>(c)] / total);
  if (lse) *lse = largest + std::log(total);
}

template <class T>
void backward_head(const AttentionJob& job, int64_t b, int64_t head) {
  using Sum = Accumulator<T>;
  const size_t width = static_cast<size_t>(job.d);
  const size_t keys = static_cast<size_t>(job.capacity);
  std::vector<Sum> dk(keys * width, 0), dv(keys * width, 0), dq(width), scores(keys), slope(keys);
  for (int64_t r = 0; r < job.rows(); ++r) {
    const int64_t at = job.row_at(b, head, r);
    const T* q = static_cast<const T*>(job.q) + at;
    const T* o = static_cast<const T*>(job.o) + at;
    const T* d_o = static_cast<const T*>(job.d_o) + at;
    const Sum lse = static_cast<const Sum*>(job.lse)[job.lse_at(b, head, r)];
    const AttentionJob::Range range = job.visible(b, r);
    Sum delta = 0;  // rowsum(d_o ∘ o)
    for (size_t c = 0; c < width; ++c) delta += static_cast<Sum>(d_o[c]) * static_cast<Sum>(o[c]);
    std::fill(dq.begin(), dq.end(), 0);
    score_row(job, b, head, q, range, scores.data(), slope.data());
    for (int64_t j = range.begin; j < range.end; ++j) {
      const size_t i = static_cast<size_t>(j - range.begin);
      const T* key = static_cast<const T*>(job.k) + job.key_at(b, head, j);
      const T* value = static_cast<const T*>(job.v) + job.key_at(b, head, j);
      Sum dp = 0;
      for (size_t c = 0; c < width; ++c) dp += static_cast<Sum>(d_o[c]) * static_cast<Sum>(value[c]);
      const Sum p = std::exp(scores[i] - lse);
      const Sum ds = p * (dp - delta) * slope[i] * static_cast<Sum>(job.scale);
      Sum* dk_row = &dk[static_cast<size_t>(j) * width];
      Sum* dv_row = &dv[static_cast<size_t>(j) * width];
      for (size_t c = 0; c < width; ++c) {
        dq[c] += ds * static_cast<Sum>(key[c]);
        dk_row[c] += ds * static_cast<Sum>(q[c]);
        dv_row[c] += p * static_cast<Sum>(d_o[c]);
      }
    }
    if (job.dq) std::transform(dq.begin(), dq.end(), static_cast<T*>(job.dq) + at, [](Sum x) { return T(x); });
  }
  for (int64_t j = 0; j < job.capacity; ++j) {
    for (size_t c = 0; c < width; ++c) {
      const size_t at = static_cast<size_t>(job.key_at(b, head, j)) + c;
      if (job.dk) static_cast<T*>(job.dk)[at] = T(dk[static_cast<size_t>(j) * width + c]);
      if (job.dv) static_cast<T*>(job.dv)[at] = T(dv[static_cast<size_t>(j) * width + c]);
    }
  }
}

}  // namespace

void attention_forward_reference(Device& device, DType dtype, const AttentionJob& job) {
  dispatch_float(dtype, [&]<class T>() {
    device.threads().parallel_for(job.B * job.K * job.rows(), [&](int64_t index) {
      const int64_t r = index % job.rows();
      const int64_t head = index / job.rows() % job.K;
      forward_row<T>(job, index / job.rows() / job.K, head, r);
    });
  });
}

void attention_backward_reference(Device& device, DType dtype, const AttentionJob& job) {
  dispatch_float(dtype, [&]<class T>() {
    device.threads().parallel_for(job.B * job.K,
                                  [&](int64_t index) { backward_head<T>(job, index / job.K, index % job.K); });
  });
}

}  // namespace troupe::kernels::cpu
