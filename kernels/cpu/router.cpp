// Scalar code: a router's rows have few elements, and the product before it has D times as many operations.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

template <class Body>
void dispatch_wide(DType type, const Body& body) {
  if (type == DType::f64) return body.template operator()<double>();
  return body.template operator()<float>();
}

// Calls body(row) for each token.
template <class Body>
void for_tokens(Device& device, const Tensor& z, const Body& body) {
  device.threads().parallel_ranges(z.rows(), row_grain(8 * z.dim(-1)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

template <class A>
A log_sum_exp(const A* z, int64_t E) {
  const A most = *std::max_element(z, z + E);
  A sum = 0;
  for (int64_t e = 0; e < E; ++e) sum += std::exp(z[e] - most);
  return most + std::log(sum);
}

template <class A>
A sum_of(const A* values, int64_t count) {
  A sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

// What scores are divided by. Sigmoids of very negative logits may all be zero.
template <class A>
A divisor(A sum) {
  return sum + A(1e-20);
}

void score(Device& device, RouterScore kind, const Tensor& z, Tensor& scores) {
  const int64_t E = z.dim(-1);
  dispatch_wide(z.dtype(), [&]<class A>() {
    for_tokens(device, z, [&](int64_t row) {
      const A* from = z.data<A>() + row * E;
      A* to = scores.data<A>() + row * E;
      if (kind == RouterScore::sigmoid) {
        for (int64_t e = 0; e < E; ++e) to[e] = A(1) / (A(1) + std::exp(-from[e]));
        return;
      }
      const A most = *std::max_element(from, from + E);
      for (int64_t e = 0; e < E; ++e) to[e] = std::exp(from[e] - most);
      const A sum = sum_of(to, E);
      for (int64_t e = 0; e < E; ++e) to[e] /= sum;
    });
  });
}

void choose(Device& device, const Tensor& scores, const Tensor& bias, const Tensor& indices, Tensor& experts) {
  const int64_t E = scores.dim(-1), k = experts.dim(-1);
  dispatch_wide(scores.dtype(), [&]<class A>() {
    const A* offset = bias.defined() ? bias.data<A>() : nullptr;
    for_tokens(device, scores, [&](int64_t row) {
      int32_t* chosen = experts.data<int32_t>() + row * k;
      if (indices.defined() && indices.data<int32_t>()[row] < 0) {
        std::fill(chosen, chosen + k, -1);
        return;
      }
      const A* s = scores.data<A>() + row * E;
      const auto value = [&](int64_t e) { return offset ? s[e] + offset[e] : s[e]; };
      for (int64_t j = 0; j < k; ++j) {
        // Whatever the scores are, NaN too, the k experts are different ones.
        int64_t best = -1;
        for (int64_t e = 0; e < E; ++e) {
          if (std::find(chosen, chosen + j, static_cast<int32_t>(e)) != chosen + j) continue;
          if (best < 0 || value(e) > value(best)) best = e;
        }
        chosen[j] = static_cast<int32_t>(best);
      }
    });
  });
}

void weigh(Device& device, const RouterOptions& options, const RouterChoice& choice, Tensor& weights) {
  const int64_t E = choice.scores.dim(-1), k = weights.dim(-1);
  dispatch_wide(weights.dtype(), [&]<class A>() {
    for_tokens(device, choice.scores, [&](int64_t row) {
      const A* s = choice.scores.data<A>() + row * E;
      const int32_t* chosen = choice.experts.data<int32_t>() + row * k;
      A* w = weights.data<A>() + row * k;
      for (int64_t j = 0; j < k; ++j) w[j] = chosen[j] < 0 ? A(0) : s[chosen[j]];
      const A factor = static_cast<A>(options.scale) / (options.normalize ? divisor(sum_of(w, k)) : A(1));
      for (int64_t j = 0; j < k; ++j) w[j] *= factor;
    });
  });
}

void statistics(Device& device, const Tensor& z, const RouterChoice& choice, Tensor& statistics) {
  const int64_t B = z.dim(0), n = z.dim(1), E = z.dim(2), k = choice.experts.dim(-1);
  dispatch_wide(z.dtype(), [&]<class A>() {
    device.threads().parallel_for(B, [&](int64_t b) {
      double* counts = statistics.data<double>() + b * (2 * E + 2);
      double* sums = counts + E;
      double* others = sums + E;
      std::fill(counts, others + 2, 0.0);
      for (int64_t row = b * n; row < (b + 1) * n; ++row) {
        const int32_t* chosen = choice.experts.data<int32_t>() + row * k;
        if (chosen[0] < 0) continue;
        for (int64_t j = 0; j < k; ++j) counts[chosen[j]] += 1;
        const A* s = choice.scores.data<A>() + row * E;
        const A sum = divisor(sum_of(s, E));
        for (int64_t e = 0; e < E; ++e) sums[e] += static_cast<double>(s[e] / sum);
        const auto lse = static_cast<double>(log_sum_exp(z.data<A>() + row * E, E));
        others[0] += 1;
        others[1] += lse * lse;
      }
    });
  });
}

// Adds a gradient g of scores divided by their sum to that of the scores.
template <class A, class G>
void through_division(const A* s, const G& g, int64_t E, A* ds) {
  const A sum = divisor(sum_of(s, E));
  A dot = 0;
  for (int64_t e = 0; e < E; ++e) dot += g(e) * s[e];
  dot /= sum;
  for (int64_t e = 0; e < E; ++e) ds[e] += (g(e) - dot) / sum;
}

template <class A>
void through_weights(const RouterOptions& options, const A* s, const int32_t* chosen, const A* dw, A* ds) {
  const int64_t k = options.per_token;
  A sum = 1, dot = 0;
  if (options.normalize) {
    sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += s[chosen[j]];
    sum = divisor(sum);
    for (int64_t j = 0; j < k; ++j) dot += dw[j] * s[chosen[j]] / sum;
  }
  for (int64_t j = 0; j < k; ++j) ds[chosen[j]] += static_cast<A>(options.scale) * (dw[j] - dot) / sum;
}

void backward(Device& device, const RouterOptions& options, const Tensor& z, const RouterChoice& choice,
              const Tensor& dweights, const RouterLossGradients& losses, Tensor& dz) {
  const int64_t n = z.dim(1), E = z.dim(2), k = choice.experts.dim(-1);
  dispatch_wide(z.dtype(), [&]<class A>() {
    for_tokens(device, z, [&](int64_t row) {
      const A* logits = z.data<A>() + row * E;
      const A* s = choice.scores.data<A>() + row * E;
      const int32_t* chosen = choice.experts.data<int32_t>() + row * k;
      A* to = dz.data<A>() + row * E;
      std::fill(to, to + E, A(0));
      if (chosen[0] < 0) return;
      std::vector<A> ds(static_cast<size_t>(E), 0);
      if (dweights.defined()) through_weights(options, s, chosen, dweights.data<A>() + row * k, ds.data());
      if (losses.balance.defined()) {
        const double* gradient = losses.balance.data<double>() + row / n * E;
        through_division(s, [&](int64_t e) { return static_cast<A>(gradient[e]); }, E, ds.data());
      }
      A dot = 0;
      if (options.score == RouterScore::softmax) {
        for (int64_t e = 0; e < E; ++e) dot += ds[static_cast<size_t>(e)] * s[e];
      }
      for (int64_t e = 0; e < E; ++e) {
        const A d = ds[static_cast<size_t>(e)];
        to[e] = options.score == RouterScore::softmax ? s[e] * (d - dot) : d * s[e] * (A(1) - s[e]);
      }
      if (losses.z_loss == 0) return;
      const A lse = log_sum_exp(logits, E);
      const A factor = static_cast<A>(2 * losses.z_loss) * lse;
      for (int64_t e = 0; e < E; ++e) to[e] += factor * std::exp(logits[e] - lse);
    });
  });
}

}  // namespace

RouterKernels router_kernels() {
  return {.score = score, .choose = choose, .weigh = weigh, .statistics = statistics, .backward = backward};
}

}  // namespace troupe::kernels::cpu
