#include "parallel/model/context_parallel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "kernels/ops/kernels.h"
#include "runtime/base/random.h"

namespace troupe::parallel {
namespace {

using kernels::AttentionOptions;
using kernels::Device;
using kernels::DType;
using kernels::Shape;
using kernels::Tape;
using kernels::Tensor;
using kernels::Value;

struct Problem {
  int64_t B = 1, T = 24, H = 2, K = 1, d = 8;
  bool causal = true;
  int64_t window = 0;
  float softcap = 0;
  std::vector<int64_t> documents = {};  // where each begins; empty: none are packed

  std::string name() const {
    return fmt::format("B{} T{} H{} K{} d{} causal{} window{} softcap{} documents{}", B, T, H, K, d, causal, window,
                       softcap, documents.size());
  }
  AttentionOptions options() const { return {.causal = causal, .window = window, .softcap = softcap}; }
  int32_t first_visible(int64_t t) const {
    int64_t first = 0;
    for (int64_t begin : documents) first = begin <= t ? begin : first;
    return static_cast<int32_t>(first);
  }
};

std::vector<Problem> problems() {
  return {{.T = 8},
          {.B = 3, .T = 24, .H = 4, .K = 2},
          {.B = 2, .T = 48, .softcap = 2},
          {.T = 24, .causal = false},
          {.B = 2, .T = 48, .window = 1},
          {.B = 2, .T = 48, .window = 7},
          {.T = 24, .window = 30},
          {.B = 2, .T = 48, .documents = {0, 5, 6, 30}},
          {.T = 48, .window = 4, .documents = {0, 17, 40}},
          {.T = 560, .H = 4, .K = 2, .d = 16}};
}

// q, k, v and the output's gradient, the same for all ranks.
std::vector<double> draw(uint64_t key, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(key, i);
  return values;
}

struct Results {
  std::array<std::vector<double>, 4> all;  // o, dq, dk, dv: [B, T, heads, d]
};

// The tokens of context rank `rank` of `ranks`, in its order.
std::vector<int64_t> tokens_of(int64_t T, int rank, int ranks) {
  std::vector<int64_t> tokens;
  const int64_t pieces = ranks > 1 ? 2 * ranks : 1, s = T / pieces;
  for (int64_t i = 0; i < s; ++i) tokens.push_back(rank * s + i);
  for (int64_t i = 0; ranks > 1 && i < s; ++i) tokens.push_back((pieces - 1 - rank) * s + i);
  return tokens;
}

void run_rank(const Problem& p, DType dtype, ContextExchange exchange, Communicator& context, Results& results) {
  const auto device = kernels::make_cpu_device(1);
  const std::vector<int64_t> tokens = tokens_of(p.T, context.rank(), context.size());
  const auto n = static_cast<int64_t>(tokens.size());
  const auto element = [&](int64_t heads, int64_t b, int64_t t) {
    return static_cast<size_t>((b * p.T + t) * heads * p.d);
  };
  const auto mine = [&](const std::vector<double>& whole, int64_t heads) {
    std::vector<double> part;
    for (int64_t b = 0; b < p.B; ++b) {
      for (int64_t t : tokens) {
        const auto at = whole.begin() + static_cast<int64_t>(element(heads, b, t));
        part.insert(part.end(), at, at + heads * p.d);
      }
    }
    return Tensor::from<double>(*device, part, {p.B, n, heads, p.d}).to(dtype);
  };
  const auto put = [&](size_t which, const Tensor& part, int64_t heads) {
    const std::vector<double> values = part.to_host<double>();
    auto from = values.begin();
    for (int64_t b = 0; b < p.B; ++b) {
      for (int64_t t : tokens) {
        std::copy(from, from + heads * p.d, results.all[which].begin() + static_cast<int64_t>(element(heads, b, t)));
        from += heads * p.d;
      }
    }
  };
  Tape tape(*device);
  const Value q = tape.input(mine(draw(1, p.B * p.T * p.H * p.d), p.H));
  const Value k = tape.input(mine(draw(2, p.B * p.T * p.K * p.d), p.K));
  const Value v = tape.input(mine(draw(3, p.B * p.T * p.K * p.d), p.K));
  AttentionOptions options = p.options();
  if (!p.documents.empty()) {
    std::vector<int32_t> first;
    for (int64_t b = 0; b < p.B; ++b) {
      for (int64_t t : tokens) first.push_back(p.first_visible(t));
    }
    options.first_visible = Tensor::from<int32_t>(*device, first, {p.B, n});
  }
  const Value o = context_attention(tape, context, exchange, q, k, v, options);
  const Tensor d_o = mine(draw(4, p.B * p.T * p.H * p.d), p.H);
  tape.backward(std::span(&o, 1), std::span(&d_o, 1));
  put(0, o.tensor(), p.H);
  put(1, tape.gradient(q), p.H);
  put(2, tape.gradient(k), p.K);
  put(3, tape.gradient(v), p.K);
}

Results run(const Problem& p, DType dtype, ContextExchange exchange, int ranks) {
  Results results;
  const auto size = [&](int64_t heads) { return static_cast<size_t>(p.B * p.T * heads * p.d); };
  results.all = {std::vector<double>(size(p.H)), std::vector<double>(size(p.H)), std::vector<double>(size(p.K)),
                 std::vector<double>(size(p.K))};
  auto context = make_thread_communicators(ranks, "context", {.deadline = std::chrono::seconds(60)});
  std::vector<std::thread> threads;
  for (auto& rank : context) {
    threads.emplace_back([&] { run_rank(p, dtype, exchange, *rank, results); });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

// ‖a − b‖ / ‖b‖; of a gradient that is zero in theory, against its inputs' size.
double error_of(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(size, 0.01 * static_cast<double>(b.size())));
}

constexpr ContextExchange kExchanges[] = {ContextExchange::ring, ContextExchange::gather};

TEST(ContextAttention, IsThatOfOneRank) {
  for (const Problem& p : problems()) {
    const Results one = run(p, DType::f64, ContextExchange::ring, 1);
    for (int ranks : {2, 4}) {
      if (p.T % (2 * ranks) != 0) continue;
      for (ContextExchange exchange : kExchanges) {
        SCOPED_TRACE(
            fmt::format("{} on {} ranks, {}", p.name(), ranks, exchange == ContextExchange::ring ? "ring" : "gather"));
        const Results many = run(p, DType::f64, exchange, ranks);
        for (size_t i = 0; i < 4; ++i) EXPECT_LE(error_of(many.all[i], one.all[i]), 1e-13) << "result " << i;
      }
    }
  }
}

// Rounding: what one rank loses against f64, and half as much again for the parts' own rounding.
TEST(ContextAttention, RoundsLittleMoreThanOneRank) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Problem& p : problems()) {
      const Results exact = run(p, DType::f64, ContextExchange::ring, 1), one = run(p, dtype, ContextExchange::ring, 1);
      const int ranks = p.T % 8 == 0 ? 4 : 2;
      for (ContextExchange exchange : kExchanges) {
        SCOPED_TRACE(fmt::format("{} of {}, {}", p.name(), kernels::name_of(dtype),
                                 exchange == ContextExchange::ring ? "ring" : "gather"));
        const Results many = run(p, dtype, exchange, ranks);
        for (size_t i = 0; i < 4; ++i)
          EXPECT_LE(error_of(many.all[i], exact.all[i]), 1.5 * error_of(one.all[i], exact.all[i]) + 1e-7) << i;
      }
    }
  }
}

TEST(ContextAttention, TakesTheRingWhereEveryTurnIsWorth) {
  const auto device = kernels::make_cpu_device(1);
  EXPECT_EQ(context_exchange_for({}), ContextExchange::ring);
  EXPECT_EQ(context_exchange_for({.window = 4}), ContextExchange::gather);
  EXPECT_EQ(context_exchange_for({.first_visible = Tensor::zeros(*device, DType::i32, {1, 4})}),
            ContextExchange::gather);
}

}  // namespace
}  // namespace troupe::parallel
