// Random attention problems, and attention written down naively in f64: what the tests compare with.
#pragma once
#include <cmath>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops/attention.h"
#include "kernels/ops/kernels.h"

namespace troupe::kernels::attention_cases {

struct Case {
  int64_t B = 1, T = 1, S = 1, H = 1, K = 1, d = 8;
  bool causal = true;
  int64_t window = 0;
  float softcap = 0;
  float scale = 0;
  int64_t offset = 0;                 // of query row 0
  std::vector<int32_t> offsets = {};  // per sequence
  std::vector<int32_t> first = {};    // [B, T]
  int64_t keys = 0;

  std::string name() const {
    return fmt::format("B{} T{} S{} H{} K{} d{} causal{} window{} softcap{} offset{} offsets{} first{} keys{}", B, T, S,
                       H, K, d, causal, window, softcap, offset, offsets.size(), first.size(), keys);
  }
  AttentionOptions options(Device& device) const {
    AttentionOptions options{
        .scale = scale, .causal = causal, .window = window, .softcap = softcap, .query_offset = offset, .keys = keys};
    if (!offsets.empty()) options.query_offsets = Tensor::from<int32_t>(device, offsets, {B});
    if (!first.empty()) options.first_visible = Tensor::from<int32_t>(device, first, {B, T});
    return options;
  }
  bool sees(int64_t b, int64_t t, int64_t j) const {
    const int64_t at = offsets.empty() ? offset : offsets[static_cast<size_t>(b)];
    const int64_t valid = keys > 0 ? keys : offsets.empty() ? S : at + T;
    if (j >= valid) return false;
    if (causal && j > at + t) return false;
    if (window > 0 && j <= at + t - window) return false;
    return first.empty() || j >= first[static_cast<size_t>(b * T + t)];
  }
};

inline std::vector<double> random_values(int64_t count, uint64_t seed, double deviation = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(engine);
  return values;
}

inline Tensor tensor_of(Device& device, DType dtype, const std::vector<double>& values, Shape shape) {
  return Tensor::from<double>(device, values, shape).to(dtype);
}

struct Answer {
  std::vector<double> o, dq, dk, dv;
};

// Inputs and outputs as flat arrays; d_o empty: forward only.
inline Answer naive(const Case& c, const std::vector<double>& q, const std::vector<double>& k,
                    const std::vector<double>& v, const std::vector<double>& d_o = {}) {
  Answer out{std::vector<double>(q.size()), std::vector<double>(q.size()), std::vector<double>(k.size()),
             std::vector<double>(k.size())};
  const double scale = c.scale > 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.d));
  for (int64_t b = 0; b < c.B; ++b) {
    for (int64_t t = 0; t < c.T; ++t) {
      for (int64_t h = 0; h < c.H; ++h) {
        const auto row = static_cast<size_t>(((b * c.T + t) * c.H + h) * c.d);
        const auto key = [&](int64_t j) { return static_cast<size_t>(((b * c.S + j) * c.K + h / (c.H / c.K)) * c.d); };
        const auto width = static_cast<size_t>(c.d);
        std::vector<double> p(static_cast<size_t>(c.S), 0), rise(static_cast<size_t>(c.S), 1);
        double total = 0;
        for (int64_t j = 0; j < c.S; ++j) {
          if (!c.sees(b, t, j)) continue;
          double score = 0;
          for (size_t i = 0; i < width; ++i) score += q[row + i] * k[key(j) + i];
          score *= scale;
          if (c.softcap > 0) {
            const double squashed = std::tanh(score / c.softcap);
            rise[static_cast<size_t>(j)] = 1 - squashed * squashed;
            score = c.softcap * squashed;
          }
          p[static_cast<size_t>(j)] = std::exp(score);  // scores of the cases stay far below overflow
          total += p[static_cast<size_t>(j)];
        }
        if (total == 0) continue;
        double delta = 0;
        for (int64_t j = 0; j < c.S; ++j) {
          p[static_cast<size_t>(j)] /= total;
          for (size_t i = 0; i < width; ++i) out.o[row + i] += p[static_cast<size_t>(j)] * v[key(j) + i];
        }
        if (d_o.empty()) continue;
        for (size_t i = 0; i < width; ++i) delta += d_o[row + i] * out.o[row + i];
        for (int64_t j = 0; j < c.S; ++j) {
          const double weight = p[static_cast<size_t>(j)];
          if (weight == 0) continue;
          double dp = 0;
          for (size_t i = 0; i < width; ++i) dp += d_o[row + i] * v[key(j) + i];
          const double ds = weight * (dp - delta) * rise[static_cast<size_t>(j)] * scale;
          for (size_t i = 0; i < width; ++i) {
            out.dq[row + i] += ds * k[key(j) + i];
            out.dk[key(j) + i] += ds * q[row + i];
            out.dv[key(j) + i] += weight * d_o[row + i];
          }
        }
      }
    }
  }
  return out;
}

struct Results {
  Tensor o, dq, dk, dv;
};

// Forward and, with d_o, backward through a tape.
inline Results run(Device& device, const Case& c, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& d_o = {}) {
  Tape tape(device, d_o.defined() ? Tape::Mode::record : Tape::Mode::no_gradient);
  const Value query = tape.input(q), key = tape.input(k), value = tape.input(v);
  const Value out = attention(tape, query, key, value, c.options(device));
  Results result{out.tensor(), {}, {}, {}};
  if (!d_o.defined()) return result;
  const std::vector<Value> outputs{out};
  const std::vector<Tensor> gradients{d_o};
  tape.backward(outputs, gradients);
  result.dq = tape.gradient(query);
  result.dk = tape.gradient(key);
  result.dv = tape.gradient(value);
  return result;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0;
}

// ‖a − b‖ / ‖b‖, with `floor` under the denominator for arrays that are zero by theory.
inline double relative_error(const std::vector<double>& a, const std::vector<double>& b, double floor = 1e-3) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(norm), floor);
}

}  // namespace troupe::kernels::attention_cases
