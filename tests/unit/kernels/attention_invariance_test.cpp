// What later work relies on, bit for bit: a row's result depends on nothing but its q and the keys it
// sees, and no result depends on the number of threads.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/cpu/isa.h"
#include "tests/unit/kernels/attention_cases.h"

namespace troupe::kernels::attention_cases {
namespace {

constexpr DType kTypes[] = {DType::f64, DType::f32, DType::bf16};

Tensor row_of(const Tensor& x, int64_t b, int64_t t) {  // x [B, T, H, d] → [1, H, d]
  return x.reshape({x.dim(0) * x.dim(1), x.dim(2), x.dim(3)}).slice(b * x.dim(1) + t, b * x.dim(1) + t + 1);
}

class AttentionRows : public testing::TestWithParam<int> {};  // d

TEST_P(AttentionRows, DecodeOverAKvCacheEqualsPrefillBitForBit) {
  const int64_t d = GetParam();
  auto device = make_cpu_device(2);
  for (DType dtype : kTypes) {
    for (int64_t group : {1, 3, 12}) {
      for (int64_t window : {0, 70}) {
        if (dtype == DType::f64 && (d != 7 || window == 0)) continue;  // the reference: rows never meet there
        const int64_t T = 200, K = 2, capacity = 230;
        const Shape query{1, T, K * group, d}, cache{1, capacity, K, d};
        const Tensor q = tensor_of(*device, dtype, random_values(query.elements(), 1, 2), query);
        const Tensor k = tensor_of(*device, dtype, random_values(cache.elements(), 2, 2), cache);
        const Tensor v = tensor_of(*device, dtype, random_values(cache.elements(), 3, 2), cache);
        Case c{.T = T, .S = capacity, .H = K * group, .K = K, .d = d, .window = window};
        const Tensor all = run(*device, c, q, k, v).o;
        for (int64_t t : {0, 1, 15, 62, 63, 64, 65, 127, 128, 199}) {
          for (int64_t count : {1, 2, 5, 40}) {
            if (t + count > T) continue;
            c.T = count;
            c.offset = t;
            const Tensor part =
                run(*device, c, q.reshape({T, K * group, d}).slice(t, t + count).reshape({1, count, K * group, d}), k,
                    v)
                    .o;
            EXPECT_TRUE(same_bits(part, all.reshape({T, K * group, d}).slice(t, t + count)))
                << name_of(dtype) << " group " << group << " window " << window << " rows " << t << " + " << count;
          }
        }
      }
    }
  }
}

// Widths with and without a remainder in vectors of 4, 8 and 16, and odd ones.
INSTANTIATE_TEST_SUITE_P(Widths, AttentionRows, testing::Values(7, 32, 40, 64, 128));

TEST(AttentionRows, SequencesThatDecodeTogetherEqualEachAlone) {
  auto device = make_cpu_device(3);
  const int64_t B = 4, H = 4, K = 2, d = 32, capacity = 150;
  const Shape query{B, 1, H, d}, cache{B, capacity, K, d};
  for (DType dtype : kTypes) {
    const Tensor q = tensor_of(*device, dtype, random_values(query.elements(), 1), query);
    const Tensor k = tensor_of(*device, dtype, random_values(cache.elements(), 2), cache);
    const Tensor v = tensor_of(*device, dtype, random_values(cache.elements(), 3), cache);
    const Case together{.B = B, .T = 1, .S = capacity, .H = H, .K = K, .d = d, .offsets = {0, 63, 64, 149}};
    const Tensor all = run(*device, together, q, k, v).o;
    for (int64_t b = 0; b < B; ++b) {
      const Case alone{
          .T = 1, .S = capacity, .H = H, .K = K, .d = d, .offset = together.offsets[static_cast<size_t>(b)]};
      EXPECT_TRUE(
          same_bits(run(*device, alone, q.slice(b, b + 1), k.slice(b, b + 1), v.slice(b, b + 1)).o, row_of(all, b, 0)));
    }
  }
}

TEST(AttentionRows, RowsBeyondTheKeysOfACacheAreNeverRead) {
  auto device = make_cpu_device(1);
  const int64_t capacity = 100, d = 16;
  const Shape query{1, 3, 2, d}, cache{1, capacity, 1, d};
  for (DType dtype : kTypes) {
    for (int64_t keys : {1, 63, 64, 65}) {
      std::vector<double> k = random_values(cache.elements(), 2), v = random_values(cache.elements(), 3);
      const Tensor q = tensor_of(*device, dtype, random_values(query.elements(), 1), query);
      const Case c{.T = 3, .S = capacity, .H = 2, .K = 1, .d = d, .causal = false, .keys = keys};
      const Tensor clean =
          run(*device, c, q, tensor_of(*device, dtype, k, cache), tensor_of(*device, dtype, v, cache)).o;
      std::fill(k.begin() + keys * d, k.end(), std::nan(""));
      std::fill(v.begin() + keys * d, v.end(), std::nan(""));
      EXPECT_TRUE(same_bits(
          run(*device, c, q, tensor_of(*device, dtype, k, cache), tensor_of(*device, dtype, v, cache)).o, clean));
    }
  }
}

TEST(AttentionRows, ADocumentInAPackEqualsTheDocumentAloneWhenItStartsAtABlock) {
  auto device = make_cpu_device(2);
  const int64_t H = 2, d = 32, first = 128, length = 90, T = first + length;
  const Shape shape{1, T, H, d};
  for (DType dtype : kTypes) {
    const Tensor q = tensor_of(*device, dtype, random_values(shape.elements(), 1), shape);
    const Tensor k = tensor_of(*device, dtype, random_values(shape.elements(), 2), shape);
    const Tensor v = tensor_of(*device, dtype, random_values(shape.elements(), 3), shape);
    Case packed{.T = T, .S = T, .H = H, .K = H, .d = d};
    for (int32_t t = 0; t < T; ++t) packed.first.push_back(t < first ? 0 : static_cast<int32_t>(first));
    const Case alone{.T = length, .S = length, .H = H, .K = H, .d = d};
    const auto tail = [&](const Tensor& x) { return x.reshape({T, H, d}).slice(first, T).reshape({1, length, H, d}); };
    EXPECT_TRUE(same_bits(tail(run(*device, packed, q, k, v).o), run(*device, alone, tail(q), tail(k), tail(v)).o));
  }
}

// Not promised for backward: rowsum(d_o ∘ o) is summed by vectors.
TEST(AttentionRows, ForwardGivesTheSameF32BitsOnAvx2AndOnAvx512) {
  const char* environment = std::getenv("TROUPE_MAX_ISA");
  auto device = make_cpu_device(2);
  std::vector<Tensor> outputs;
  for (const char* isa : {"avx512", "avx2"}) {
    ASSERT_TRUE(cpu::cap_isa(isa).ok());
    if (cpu::isa_name() == "portable") break;
    const Case c{.T = 150, .S = 150, .H = 4, .K = 2, .d = 40};
    const Shape query{1, 150, 4, 40}, key{1, 150, 2, 40};
    outputs.push_back(run(*device, c, tensor_of(*device, DType::f32, random_values(query.elements(), 1), query),
                          tensor_of(*device, DType::f32, random_values(key.elements(), 2), key),
                          tensor_of(*device, DType::f32, random_values(key.elements(), 3), key))
                          .o);
  }
  ASSERT_TRUE(cpu::cap_isa(environment ? environment : "").ok());
  if (outputs.size() < 2) GTEST_SKIP() << "this machine has no AVX2";
  EXPECT_TRUE(same_bits(outputs[0], outputs[1]));
}

TEST(AttentionThreads, ForwardAndBackwardGiveTheSameBitsForAnyNumberOfThreads) {
  const std::vector<Case> list{{.B = 3, .T = 150, .S = 150, .H = 6, .K = 3, .d = 32},
                               {.B = 1, .T = 300, .S = 300, .H = 4, .K = 1, .d = 64},
                               {.B = 1, .T = 200, .S = 200, .H = 1, .K = 1, .d = 40, .window = 33, .softcap = 3},
                               {.B = 2, .T = 1, .S = 500, .H = 2, .K = 1, .d = 64, .offset = 499}};
  for (DType dtype : kTypes) {
    for (const Case& c : list) {
      SCOPED_TRACE(c.name());
      std::vector<std::vector<double>> first;
      for (int threads = 1; threads <= 4; ++threads) {
        auto device = make_cpu_device(threads);
        const Shape query{c.B, c.T, c.H, c.d}, key{c.B, c.S, c.K, c.d};
        const Results got = run(*device, c, tensor_of(*device, dtype, random_values(query.elements(), 1), query),
                                tensor_of(*device, dtype, random_values(key.elements(), 2), key),
                                tensor_of(*device, dtype, random_values(key.elements(), 3), key),
                                tensor_of(*device, dtype, random_values(query.elements(), 4), query));
        const std::vector<std::vector<double>> all{got.o.to_host<double>(), got.dq.to_host<double>(),
                                                   got.dk.to_host<double>(), got.dv.to_host<double>()};
        if (first.empty()) first = all;
        EXPECT_EQ(all, first) << name_of(dtype) << ", " << threads << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace troupe::kernels::attention_cases
