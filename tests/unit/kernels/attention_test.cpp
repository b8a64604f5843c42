#include "kernels/ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernels/attention_cases.h"

namespace troupe::kernels::attention_cases {
namespace {

// Every kind of mask and head grouping, at sizes around the block of 64 keys.
std::vector<Case> cases() {
  std::vector<Case> list;
  for (int64_t T : {1, 3, 17, 63, 64, 65, 130}) list.push_back({.B = 2, .T = T, .S = T, .H = 2, .K = 2, .d = 16});
  for (int64_t K : {1, 2, 3, 6}) list.push_back({.T = 70, .S = 70, .H = 6, .K = K, .d = 32});
  for (int64_t d : {1, 2, 5, 7, 16, 24, 33, 64, 80, 100, 128, 130}) {
    list.push_back({.T = 37, .S = 37, .H = 2, .K = 1, .d = d});
  }
  list.push_back({.T = 66, .S = 130, .H = 2, .K = 2, .d = 16, .causal = false});
  list.push_back({.T = 130, .S = 7, .H = 2, .K = 1, .d = 16, .causal = false});
  for (int64_t window : {1, 5, 64, 100}) {
    list.push_back({.T = 200, .S = 200, .H = 2, .K = 1, .d = 16, .window = window});
  }
  list.push_back({.T = 70, .S = 70, .H = 2, .K = 1, .d = 16, .softcap = 2});
  list.push_back({.T = 70, .S = 70, .H = 2, .K = 2, .d = 16, .window = 20, .softcap = 2, .scale = 0.5f});
  list.push_back({.T = 9, .S = 150, .H = 4, .K = 2, .d = 16, .offset = 141});
  list.push_back({.T = 1, .S = 150, .H = 16, .K = 1, .d = 16, .offset = 149});
  list.push_back({.B = 3, .T = 2, .S = 150, .H = 4, .K = 4, .d = 16, .offsets = {0, 64, 148}});
  list.push_back({.B = 2, .T = 5, .S = 150, .H = 4, .K = 2, .d = 16, .causal = false, .keys = 71});
  Case documents{.B = 2, .T = 190, .S = 190, .H = 2, .K = 1, .d = 16};
  for (int64_t b = 0; b < 2; ++b) {
    for (int32_t t = 0; t < 190; ++t) documents.first.push_back(b == 0 ? t / 50 * 50 : t < 129 ? 0 : 129);
  }
  list.push_back(documents);
  // Row 3 may first see key 5, which causality hides: it sees no key.
  Case blind{.T = 70, .S = 70, .H = 2, .K = 1, .d = 16};
  blind.first.assign(70, 0);
  blind.first[3] = 5;
  list.push_back(blind);
  return list;
}

void expect_close(DType dtype, double tolerance) {
  auto device = make_cpu_device(2);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name());
    const Shape query{c.B, c.T, c.H, c.d}, key{c.B, c.S, c.K, c.d};
    const Tensor q = tensor_of(*device, dtype, random_values(query.elements(), 1), query);
    const Tensor k = tensor_of(*device, dtype, random_values(key.elements(), 2), key);
    const Tensor v = tensor_of(*device, dtype, random_values(key.elements(), 3), key);
    const Tensor d_o = tensor_of(*device, dtype, random_values(query.elements(), 4), query);
    const Results got = run(*device, c, q, k, v, d_o);
    const Answer want = naive(c, q.to_host<double>(), k.to_host<double>(), v.to_host<double>(), d_o.to_host<double>());
    // Over one visible key dq and dk are zero by theory: their error is measured against the inputs' size.
    const double size = std::sqrt(static_cast<double>(query.elements()));
    EXPECT_LE(relative_error(got.o.to_host<double>(), want.o), tolerance);
    EXPECT_LE(relative_error(got.dq.to_host<double>(), want.dq, size * 0.1), tolerance);
    EXPECT_LE(relative_error(got.dk.to_host<double>(), want.dk, size * 0.1), tolerance);
    EXPECT_LE(relative_error(got.dv.to_host<double>(), want.dv), tolerance);
  }
}

// Rounding of f64 over sums of at most a few hundred terms.
TEST(Attention, F64EqualsTheNaiveFormula) { expect_close(DType::f64, 1e-13); }

// f32: a score of size ~4 carries an error of ~4 · 2⁻²⁴ · √d into its exponential; measured 4e-7 at most.
TEST(Attention, F32IsCloseToTheNaiveFormula) { expect_close(DType::f32, 2e-6); }

// bf16: q, k, v, d_o are exact here; P, dS and the results are rounded to 8 bits (2⁻⁹ each, relative).
TEST(Attention, Bf16IsCloseToTheNaiveFormula) { expect_close(DType::bf16, 8e-3); }

TEST(Attention, HandExample) {
  auto device = make_cpu_device(1);
  // One head of width 1, scale 1. Row 0 sees key 0 alone; row 1 weighs both: scores 2·0 and 2·ln 3 / 2.
  const std::vector<double> q{5, 2}, k{0, std::log(3.0) / 2}, v{8, 4};
  const Case c{.T = 2, .S = 2, .d = 1, .scale = 1};
  const Shape shape{1, 2, 1, 1};
  for (DType dtype : {DType::f64, DType::f32}) {
    const Results got = run(*device, c, tensor_of(*device, dtype, q, shape), tensor_of(*device, dtype, k, shape),
                            tensor_of(*device, dtype, v, shape));
    EXPECT_EQ(got.o.to_host<double>()[0], 8);
    EXPECT_NEAR(got.o.to_host<double>()[1], (8 + 3 * 4) / 4.0, 1e-6);  // an f32 exponential
  }
}

TEST(Attention, BackwardMatchesFiniteDifferences) {
  auto device = make_cpu_device(2);
  Case documents{.B = 2, .T = 6, .S = 6, .H = 4, .K = 2, .d = 3};
  documents.first = {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 4, 4};
  const std::vector<Case> list{{.B = 2, .T = 5, .S = 5, .H = 4, .K = 2, .d = 3},
                               {.T = 4, .S = 7, .H = 2, .K = 1, .d = 4, .window = 3, .softcap = 1.5f, .offset = 3},
                               {.T = 3, .S = 5, .H = 2, .K = 2, .d = 2, .causal = false},
                               documents};
  for (const Case& c : list) {
    SCOPED_TRACE(c.name());
    const Shape query{c.B, c.T, c.H, c.d}, key{c.B, c.S, c.K, c.d};
    std::vector<std::vector<double>> in{random_values(query.elements(), 1), random_values(key.elements(), 2),
                                        random_values(key.elements(), 3)};
    const std::vector<double> d_o = random_values(query.elements(), 4);
    const auto tensor = [&](int i) {
      return tensor_of(*device, DType::f64, in[static_cast<size_t>(i)], i == 0 ? query : key);
    };
    const Results got = run(*device, c, tensor(0), tensor(1), tensor(2), tensor_of(*device, DType::f64, d_o, query));
    const auto objective = [&] {
      const std::vector<double> o = run(*device, c, tensor(0), tensor(1), tensor(2)).o.to_host<double>();
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += o[i] * d_o[i];
      return sum;
    };
    const std::vector<std::vector<double>> gradients{got.dq.to_host<double>(), got.dk.to_host<double>(),
                                                     got.dv.to_host<double>()};
    for (size_t which = 0; which < 3; ++which) {
      for (size_t i = 0; i < in[which].size(); ++i) {
        const double kept = in[which][i], step = 1e-5;
        in[which][i] = kept + step;
        const double above = objective();
        in[which][i] = kept - step;
        const double below = objective();
        in[which][i] = kept;
        // Central differences: error ~ step² · third derivative + 1e-16 / step, about 1e-10.
        EXPECT_NEAR(gradients[which][i], (above - below) / (2 * step), 1e-8) << "input " << which << " element " << i;
      }
    }
  }
}

TEST(Attention, RowThatSeesNoKeyGivesZerosAndTakesNoGradient) {
  auto device = make_cpu_device(1);
  for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    Case c{.T = 3, .S = 3, .H = 1, .K = 1, .d = 4};
    c.first = {0, 2, 0};
    const Shape shape{1, 3, 1, 4};
    const auto random = [&](uint64_t seed) { return tensor_of(*device, dtype, random_values(12, seed), shape); };
    Tensor o = Tensor::empty(*device, dtype, shape);
    AttentionStatistics statistics = AttentionStatistics::empty(*device, random(1), random(2));
    device->kernels().attention.forward(*device, random(1), random(2), random(3), c.options(*device), o, &statistics);
    EXPECT_EQ(statistics.lse.to_host<double>()[1], -std::numeric_limits<double>::infinity());
    const Results got = run(*device, c, random(1), random(2), random(3), random(4));
    for (const Tensor* tensor : {&got.o, &got.dq, &got.dk, &got.dv}) {
      EXPECT_THAT(tensor->to_host<double>(), testing::Each(testing::Truly([](double x) { return std::isfinite(x); })));
    }
    for (size_t i = 4; i < 8; ++i) {
      EXPECT_EQ(got.o.to_host<double>()[i], 0);
      EXPECT_EQ(got.dq.to_host<double>()[i], 0);
    }
  }
}

TEST(Attention, NotANumberInAVisibleKeyReachesTheOutput) {
  auto device = make_cpu_device(1);
  for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Case c{.T = 20, .S = 20, .H = 1, .K = 1, .d = 8};
    const Shape shape{1, 20, 1, 8};
    std::vector<double> k = random_values(160, 2);
    k[19 * 8 + 3] = std::nan("");
    const Results got =
        run(*device, c, tensor_of(*device, dtype, random_values(160, 1), shape), tensor_of(*device, dtype, k, shape),
            tensor_of(*device, dtype, random_values(160, 3), shape));
    const std::vector<double> o = got.o.to_host<double>();
    EXPECT_TRUE(std::isnan(o[19 * 8]));
    EXPECT_TRUE(std::isfinite(o[18 * 8]));
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  auto device = make_cpu_device(1);
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Case c{.T = 100, .S = 100, .H = 1, .K = 1, .d = 16, .scale = 50};
    const Shape shape{1, 100, 1, 16};
    const auto random = [&](uint64_t seed) { return tensor_of(*device, dtype, random_values(1600, seed, 4), shape); };
    const Results got = run(*device, c, random(1), random(2), random(3), random(4));
    for (const Tensor* tensor : {&got.o, &got.dq, &got.dk, &got.dv}) {
      EXPECT_THAT(tensor->to_host<double>(), testing::Each(testing::Truly([](double x) { return std::isfinite(x); })));
    }
  }
}

TEST(Attention, OnlyWantedGradientsAreComputed) {
  auto device = make_cpu_device(2);
  const Case c{.T = 70, .S = 70, .H = 2, .K = 1, .d = 16};
  const Shape query{1, 70, 2, 16}, key{1, 70, 1, 16};
  for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor q = tensor_of(*device, dtype, random_values(query.elements(), 1), query);
    const Tensor k = tensor_of(*device, dtype, random_values(key.elements(), 2), key);
    const Tensor v = tensor_of(*device, dtype, random_values(key.elements(), 3), key);
    const std::vector<Tensor> d_o{tensor_of(*device, dtype, random_values(query.elements(), 4), query)};
    const Results all = run(*device, c, q, k, v, d_o[0]);
    for (int only = 0; only < 3; ++only) {
      Tape tape(*device);
      const auto value = [&](int i, const Tensor& t) { return i == only ? tape.input(t) : tape.constant(t); };
      const std::vector<Value> in{value(0, q), value(1, k), value(2, v)};
      const std::vector<Value> out{attention(tape, in[0], in[1], in[2], c.options(*device))};
      tape.backward(out, d_o);
      const Tensor* want[] = {&all.dq, &all.dk, &all.dv};
      EXPECT_TRUE(same_bits(tape.gradient(in[static_cast<size_t>(only)]), *want[only]));
    }
  }
}

TEST(Attention, OneTensorMayServeAsQueryKeyAndValue) {
  auto device = make_cpu_device(1);
  const Case c{.T = 9, .S = 9, .H = 2, .K = 2, .d = 4};
  const Shape shape{1, 9, 2, 4};
  const std::vector<double> x = random_values(72, 1), d_o = random_values(72, 2);
  Tape tape(*device);
  const Value in = tape.input(tensor_of(*device, DType::f64, x, shape));
  const std::vector<Value> out{attention(tape, in, in, in)};
  const std::vector<Tensor> gradient{tensor_of(*device, DType::f64, d_o, shape)};
  tape.backward(out, gradient);
  const Answer want = naive(c, x, x, x, d_o);
  const std::vector<double> got = tape.gradient(in).to_host<double>();
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want.dq[i] + want.dk[i] + want.dv[i], 1e-12);
}

TEST(Attention, MemoryGrowsWithTokensNotWithTheirSquare) {
  auto device = make_cpu_device(2);
  const int64_t T = 2048, d = 16;
  const Shape shape{1, T, 1, d};
  for (DType dtype : {DType::f32, DType::bf16}) {
    const auto random = [&](uint64_t seed) { return tensor_of(*device, dtype, random_values(T * d, seed), shape); };
    const Tensor q = random(1), k = random(2), v = random(3), d_o = random(4);
    const int64_t before = device->allocator().use().bytes;
    device->allocator().reset_peak();
    run(*device, {.T = T, .S = T, .d = d}, q, k, v, d_o);
    // The output, three gradients, lse; and scratch of a few f32 copies of one head's rows per thread.
    // T × T would be 16 MiB in f32.
    EXPECT_LE(device->allocator().use().peak_bytes - before, 4 * T * d * 4 + T * 4 + 2 * (8 * T * d * 4 + (1 << 19)));
    device->allocator().reset_peak();
    run(*device, {.T = T, .S = T, .d = d}, q, k, v);
    EXPECT_EQ(device->allocator().use(MemoryKind::activations).peak_bytes -
                  device->allocator().use(MemoryKind::activations).bytes,
              T * d * size_of(dtype));  // inference keeps the output alone
  }
}

TEST(Attention, VisibleScoresCountsWhatTheMaskLeaves) {
  auto device = make_cpu_device(1);
  for (const Case& c : cases()) {
    int64_t count = 0;
    for (int64_t b = 0; b < c.B; ++b)
      for (int64_t t = 0; t < c.T; ++t)
        for (int64_t j = 0; j < c.S; ++j) count += c.sees(b, t, j) ? c.H : 0;
    const Tensor q = Tensor::empty(*device, DType::f32, {c.B, c.T, c.H, c.d});
    const Tensor k = Tensor::empty(*device, DType::f32, {c.B, c.S, c.K, c.d});
    EXPECT_EQ(visible_scores(q, k, c.options(*device)), count) << c.name();
  }
}

TEST(Attention, RefusesArgumentsThatDoNotFit) {
  auto device = make_cpu_device(1);
  Tape tape(*device);
  const auto value = [&](Shape shape) { return tape.constant(Tensor::zeros(*device, DType::f32, shape)); };
  const Value q = value({2, 4, 6, 8});
  EXPECT_THROW(attention(tape, q, value({2, 4, 4, 8}), value({2, 4, 4, 8})), CheckFailure);  // 4 does not divide 6
  EXPECT_THROW(attention(tape, q, value({2, 4, 3, 4}), value({2, 4, 3, 4})), CheckFailure);  // widths differ
  const Value k = value({2, 4, 3, 8});
  EXPECT_THROW(attention(tape, q, k, value({2, 5, 3, 8})), CheckFailure);
  EXPECT_THROW(attention(tape, q, k, k, {.causal = false, .window = 2}), CheckFailure);
  EXPECT_THROW(attention(tape, q, k, k, {.keys = 5}), CheckFailure);
  AttentionOptions full;
  full.query_offsets = Tensor::from<int32_t>(*device, std::vector<int32_t>{0, 1}, {2});
  EXPECT_THROW(attention(tape, q, k, k, full), CheckFailure);  // 1 + 4 tokens, the cache holds 4
}

}  // namespace
}  // namespace troupe::kernels::attention_cases
