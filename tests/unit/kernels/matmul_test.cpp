#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

constexpr MatmulForm kForms[] = {MatmulForm::nt, MatmulForm::nn, MatmulForm::tn};

struct Sizes {
  int64_t M, N, K;
};

Tensor random_tensor(Device& device, DType type, Shape shape, uint32_t seed) {
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (float& value : values) {
    seed = seed * 1664525 + 1013904223;  // Knuth's linear congruence; its upper bits are good enough here
    value = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-31f;
  }
  return Tensor::from<float>(device, values, shape).to(type);
}

Shape a_shape(MatmulForm form, Sizes s) { return form == MatmulForm::tn ? Shape{s.K, s.M} : Shape{s.M, s.K}; }
Shape b_shape(MatmulForm form, Sizes s) { return form == MatmulForm::nt ? Shape{s.N, s.K} : Shape{s.K, s.N}; }

Tensor multiply(Device& device, MatmulForm form, const Tensor& a, const Tensor& b, DType c_type, Sizes s,
                const MatmulOptions& options = {}) {
  Tensor c = Tensor::empty(device, c_type, {s.M, s.N});
  device.kernels().matmul.multiply(device, form, a, b, c, options);
  return c;
}

bool same_bits(const Tensor& x, const Tensor& y) {
  return x.dtype() == y.dtype() && x.elements() == y.elements() &&
         (x.elements() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0);
}

// Rows [begin, end) of op(A), as a new matrix of the same form.
Tensor rows_of_a(Device& device, MatmulForm form, const Tensor& a, int64_t begin, int64_t end) {
  if (form != MatmulForm::tn) return a.slice(begin, end);
  const int64_t size = size_of(a.dtype());
  Tensor part = Tensor::empty(device, a.dtype(), {a.dim(0), end - begin});
  for (int64_t k = 0; k < a.dim(0); ++k) {
    std::memcpy(static_cast<std::byte*>(part.raw()) + k * (end - begin) * size,
                static_cast<const std::byte*>(a.raw()) + (k * a.dim(1) + begin) * size,
                static_cast<size_t>((end - begin) * size));
  }
  return part;
}
Tensor columns_of_b(Device& device, MatmulForm form, const Tensor& b, int64_t begin, int64_t end) {
  return rows_of_a(device, form == MatmulForm::nt ? MatmulForm::nn : MatmulForm::tn, b, begin, end);
}

struct Types {
  DType operands, c;
};
constexpr Types kTypes[] = {
    {DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}};

// |error| ≤ K · ε · Σ|a||b| for a chain of K roundings (Higham, Accuracy and Stability, §3.1), with ε of the
// sums' type, plus one rounding of the result to C's type. Values are in [−1, 1].
double tolerance(Types types, double sum_of_magnitudes, double value, int64_t K) {
  const double sum_epsilon = types.operands == DType::f64 ? 0x1p-53 : 0x1p-24;
  const double c_epsilon = types.c == DType::bf16 ? 0x1p-8 : sum_epsilon;
  return static_cast<double>(K + 2) * sum_epsilon * sum_of_magnitudes + 1.01 * c_epsilon * std::abs(value) + 1e-30;
}

void expect_near_reference(MatmulForm form, Types types, Sizes s, const Tensor& a, const Tensor& b, const Tensor& c,
                           const std::vector<double>& start, const std::vector<double>& bias) {
  const auto left = a.to_host<double>(), right = b.to_host<double>(), result = c.to_host<double>();
  for (int64_t m = 0; m < s.M; ++m) {
    for (int64_t n = 0; n < s.N; ++n) {
      const auto i = static_cast<size_t>(m * s.N + n);
      double sum = start.empty() ? 0 : start[i], magnitude = std::abs(sum);
      for (int64_t k = 0; k < s.K; ++k) {
        const double x = left[static_cast<size_t>(form == MatmulForm::tn ? k * s.M + m : m * s.K + k)];
        const double y = right[static_cast<size_t>(form == MatmulForm::nt ? n * s.K + k : k * s.N + n)];
        sum += x * y;
        magnitude += std::abs(x * y);
      }
      if (!bias.empty()) {
        sum += bias[static_cast<size_t>(n)];
        magnitude += std::abs(bias[static_cast<size_t>(n)]);
      }
      ASSERT_NEAR(result[i], sum, tolerance(types, magnitude, sum, s.K))
          << "form " << static_cast<int>(form) << " of " << name_of(types.operands) << " into " << name_of(types.c)
          << ", M N K = " << s.M << " " << s.N << " " << s.K << ", element " << m << " " << n;
    }
  }
}

class Matmul : public testing::TestWithParam<int> {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device(GetParam());
};

TEST_P(Matmul, AgreesWithTheReferenceOverOddSizes) {
  const Sizes sizes[] = {{1, 1, 1},      {3, 5, 2},      {8, 48, 64},   {7, 47, 33},  {9, 49, 31},
                         {17, 100, 129}, {64, 65, 128},  {1, 97, 777},  {130, 24, 5}, {33, 16, 1700},
                         {5, 193, 64},   {100, 150, 70}, {260, 9, 1601}};
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : sizes) {
        const Tensor a = random_tensor(*device_, types.operands, a_shape(form, s), 1);
        const Tensor b = random_tensor(*device_, types.operands, b_shape(form, s), 2);
        expect_near_reference(form, types, s, a, b, multiply(*device_, form, a, b, types.c, s), {}, {});
      }
    }
  }
}

TEST_P(Matmul, AddsToCAndAddsTheBias) {
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : {Sizes{13, 53, 40}, Sizes{70, 7, 1900}}) {
        const Tensor a = random_tensor(*device_, types.operands, a_shape(form, s), 1);
        const Tensor b = random_tensor(*device_, types.operands, b_shape(form, s), 2);
        const Tensor bias = random_tensor(*device_, types.operands, {s.N}, 3);
        Tensor c = random_tensor(*device_, types.c, {s.M, s.N}, 4);
        const auto start = c.to_host<double>();
        device_->kernels().matmul.multiply(*device_, form, a, b, c, {.accumulate = true, .bias = &bias});
        expect_near_reference(form, types, s, a, b, c, start, bias.to_host<double>());
      }
    }
  }
}

TEST_P(Matmul, SizesOfZeroAreProductsToo) {
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : {Sizes{0, 3, 4}, Sizes{3, 0, 4}, Sizes{3, 4, 0}, Sizes{0, 0, 0}}) {
        const Tensor a = Tensor::zeros(*device_, types.operands, a_shape(form, s));
        const Tensor b = Tensor::zeros(*device_, types.operands, b_shape(form, s));
        const Tensor bias = random_tensor(*device_, types.operands, {s.N}, 3);
        Tensor c = random_tensor(*device_, types.c, {s.M, s.N}, 4);
        const auto start = c.to_host<double>();
        device_->kernels().matmul.multiply(*device_, form, a, b, c, {.accumulate = true});
        EXPECT_EQ(c.to_host<double>(), start);
        device_->kernels().matmul.multiply(*device_, form, a, b, c, {.bias = &bias});
        expect_near_reference(form, types, s, a, b, c, {}, bias.to_host<double>());
      }
    }
  }
}

TEST_P(Matmul, RefusesSizesAndTypesThatDoNotFit) {
  const auto run = [&](DType a_type, Shape a, DType b_type, Shape b, DType c_type, Shape c) {
    Tensor result = Tensor::zeros(*device_, c_type, c);
    device_->kernels().matmul.multiply(*device_, MatmulForm::nn, Tensor::zeros(*device_, a_type, a),
                                       Tensor::zeros(*device_, b_type, b), result, {});
  };
  const DType f32 = DType::f32;
  EXPECT_NO_THROW(run(f32, {2, 3}, f32, {3, 4}, f32, {2, 4}));
  EXPECT_THROW(run(f32, {2, 3}, f32, {2, 4}, f32, {2, 4}), CheckFailure);
  EXPECT_THROW(run(f32, {2, 3}, f32, {3, 4}, f32, {2, 3}), CheckFailure);
  EXPECT_THROW(run(f32, {2, 3}, DType::bf16, {3, 4}, f32, {2, 4}), CheckFailure);
  EXPECT_THROW(run(f32, {2, 3}, f32, {3, 4}, DType::bf16, {2, 4}), CheckFailure);
}

// The promise that rollouts agree with the trainer to the bit: one row alone, any slice of rows or of
// columns, and a packed weight give the bits of the whole product.
TEST_P(Matmul, ARowNeverDependsOnOtherRowsNorAColumnOnOtherColumns) {
  const Sizes sizes[] = {{37, 131, 70}, {64, 96, 1999}, {100, 64, 257}, {2101, 70, 1601}};
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : sizes) {
        const Tensor a = random_tensor(*device_, types.operands, a_shape(form, s), 1);
        const Tensor b = random_tensor(*device_, types.operands, b_shape(form, s), 2);
        const Tensor whole = multiply(*device_, form, a, b, types.c, s);
        for (auto [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {s.M - 1, s.M}, {5, 12}, {3, 28}}) {
          const Tensor part =
              multiply(*device_, form, rows_of_a(*device_, form, a, begin, end), b, types.c, {end - begin, s.N, s.K});
          EXPECT_TRUE(same_bits(part, whole.slice(begin, end)))
              << "rows " << begin << "–" << end << " form " << static_cast<int>(form) << " K " << s.K;
        }
        for (auto [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {7, 63}, {s.N / 2, s.N}}) {
          const Tensor part = multiply(*device_, form, a, columns_of_b(*device_, form, b, begin, end), types.c,
                                       {s.M, end - begin, s.K});
          EXPECT_TRUE(same_bits(part, rows_of_a(*device_, MatmulForm::tn, whole, begin, end)))
              << "columns " << begin << "–" << end << " form " << static_cast<int>(form) << " K " << s.K;
        }
      }
    }
  }
}

TEST_P(Matmul, PackedWeightsGiveTheBitsOfPlainOnes) {
  for (Types types : kTypes) {
    for (Sizes s : {Sizes{40, 131, 70}, Sizes{33, 100, 2001}, Sizes{3, 1, 1}, Sizes{2, 60, 0}}) {
      const Tensor weight = random_tensor(*device_, types.operands, {s.N, s.K}, 2);
      const PackedMatrix packed = device_->kernels().matmul.pack(*device_, weight, MemoryKind::parameters);
      const Tensor a = random_tensor(*device_, types.operands, {s.M, s.K}, 1);
      const Tensor bias = random_tensor(*device_, types.operands, {s.N}, 3);
      const Tensor whole = multiply(*device_, MatmulForm::nt, a, weight, types.c, s, {.bias = &bias});
      for (int64_t rows = 1; rows <= s.M; rows += rows < 20 ? 1 : 10) {
        Tensor c = Tensor::empty(*device_, types.c, {rows, s.N});
        device_->kernels().matmul.multiply_packed(*device_, a.slice(0, rows), packed, c, {.bias = &bias});
        EXPECT_TRUE(same_bits(c, whole.slice(0, rows))) << rows << " rows, K " << s.K;
      }
    }
  }
}

TEST_P(Matmul, TheFormsAgreeToTheBit) {
  for (Types types : kTypes) {
    const Sizes s{50, 70, 1801};
    const Tensor a = random_tensor(*device_, types.operands, {s.M, s.K}, 1);
    const Tensor b = random_tensor(*device_, types.operands, {s.N, s.K}, 2);
    const auto transpose = [&](const Tensor& t) {
      Tensor result = Tensor::empty(*device_, t.dtype(), {t.dim(1), t.dim(0)});
      const int64_t size = size_of(t.dtype());
      for (int64_t i = 0; i < t.dim(0); ++i) {
        for (int64_t j = 0; j < t.dim(1); ++j) {
          std::memcpy(static_cast<std::byte*>(result.raw()) + (j * t.dim(0) + i) * size,
                      static_cast<const std::byte*>(t.raw()) + (i * t.dim(1) + j) * size, static_cast<size_t>(size));
        }
      }
      return result;
    };
    const Tensor nt = multiply(*device_, MatmulForm::nt, a, b, types.c, s);
    EXPECT_TRUE(same_bits(nt, multiply(*device_, MatmulForm::nn, a, transpose(b), types.c, s)));
    EXPECT_TRUE(same_bits(nt, multiply(*device_, MatmulForm::tn, transpose(a), transpose(b), types.c, s)));
  }
}

TEST_P(Matmul, SlicesOfKAddUpToTheBitsOfTheWhole) {
  for (Types types : {kTypes[0], kTypes[1], kTypes[2]}) {
    const Sizes s{60, 50, 1600};
    const Tensor a = random_tensor(*device_, types.operands, {s.K, s.M}, 1);
    const Tensor b = random_tensor(*device_, types.operands, {s.K, s.N}, 2);
    const Tensor whole = multiply(*device_, MatmulForm::tn, a, b, types.c, s);
    Tensor c = Tensor::zeros(*device_, types.c, {s.M, s.N});
    for (auto [begin, end] : {std::pair<int64_t, int64_t>{0, 100}, {100, 1000}, {1000, 1600}}) {
      device_->kernels().matmul.multiply(*device_, MatmulForm::tn, a.slice(begin, end), b.slice(begin, end), c,
                                         {.accumulate = true});
    }
    EXPECT_TRUE(same_bits(c, whole)) << name_of(types.operands);
  }
}

TEST_P(Matmul, BatchedGivesTheBitsOfEachProductAlone) {
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : {Sizes{20, 50, 33}, Sizes{100, 200, 700}, Sizes{9, 20, 1701}}) {
        const int64_t G = 6;
        const auto shape = [&](Shape matrix) { return Shape{2, G / 2, matrix[0], matrix[1]}; };
        const Tensor a = random_tensor(*device_, types.operands, shape(a_shape(form, s)), 1);
        const Tensor b = random_tensor(*device_, types.operands, shape(b_shape(form, s)), 2);
        Tensor c = Tensor::empty(*device_, types.c, {2, G / 2, s.M, s.N});
        device_->kernels().matmul.batched(*device_, form, a, b, c, {});
        const auto group = [&](const Tensor& t, int64_t g) {
          return t.reshape({G, t.dim(-2), t.dim(-1)}).slice(g, g + 1).reshape({t.dim(-2), t.dim(-1)});
        };
        for (int64_t g = 0; g < G; ++g) {
          EXPECT_TRUE(same_bits(group(c, g), multiply(*device_, form, group(a, g), group(b, g), types.c, s)));
        }
      }
    }
  }
}

TEST_P(Matmul, NansAndInfinitiesReachC) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (Types types : kTypes) {
    // Rows of different kinds; 40 columns fill vectors and leave some over.
    const std::vector<float> left = {1, nan, inf, 1, inf, -inf}, right(80, 1);
    const Tensor a = Tensor::from<float>(*device_, left, {3, 2}).to(types.operands);
    const Tensor b = Tensor::from<float>(*device_, right, {40, 2}).to(types.operands);
    const auto c = multiply(*device_, MatmulForm::nt, a, b, types.c, {3, 40, 2}).to_host<double>();
    for (size_t j = 0; j < 40; ++j) {
      EXPECT_TRUE(std::isnan(c[j]));
      EXPECT_EQ(c[40 + j], inf);
      EXPECT_TRUE(std::isnan(c[80 + j]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Matmul, testing::Values(1, 2, 3, 4));

TEST(MatmulThreads, TheBitsDoNotDependOnTheNumberOfThreads) {
  for (MatmulForm form : kForms) {
    for (Types types : kTypes) {
      for (Sizes s : {Sizes{200, 300, 400}, Sizes{1, 1000, 300}, Sizes{515, 65, 900}}) {
        std::vector<double> alone;
        for (int threads : {1, 2, 3, 4}) {
          const auto device = make_cpu_device(threads);
          const Tensor a = random_tensor(*device, types.operands, a_shape(form, s), 1);
          const Tensor b = random_tensor(*device, types.operands, b_shape(form, s), 2);
          const auto result = multiply(*device, form, a, b, types.c, s).to_host<double>();
          if (threads == 1) alone = result;
          EXPECT_EQ(result, alone);
        }
      }
    }
  }
}

// Both fuse each multiply-add, in the same order; the portable path rounds twice.
TEST(MatmulInstructionSets, Avx2AndAvx512GiveTheSameBits) {
  const auto device = make_cpu_device(1);
  const auto restore = [] { return cpu::cap_isa(std::getenv("TROUPE_MAX_ISA") ? std::getenv("TROUPE_MAX_ISA") : ""); };
  ASSERT_TRUE(cpu::cap_isa("avx512").ok());
  const bool both = cpu::isa_name().starts_with("avx512");
  if (both) {
    for (Types types : {kTypes[0], kTypes[1]}) {
      for (MatmulForm form : kForms) {
        const Sizes s{45, 77, 1801};
        const Tensor a = random_tensor(*device, types.operands, a_shape(form, s), 1);
        const Tensor b = random_tensor(*device, types.operands, b_shape(form, s), 2);
        ASSERT_TRUE(cpu::cap_isa("avx512").ok());
        const Tensor wide = multiply(*device, form, a, b, types.c, s);
        ASSERT_TRUE(cpu::cap_isa("avx2").ok());
        EXPECT_TRUE(same_bits(wide, multiply(*device, form, a, b, types.c, s))) << name_of(types.operands);
      }
    }
  }
  ASSERT_TRUE(restore().ok());
  if (!both) GTEST_SKIP() << "this CPU has no AVX-512";
}

TEST(MatmulInstructionSets, AnUnknownCapIsAnErrorThatNamesTheKnownOnes) {
  const Result<void> result = cpu::cap_isa("avx1024");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::usage);
  EXPECT_NE(result.error().message().find("portable, avx2, avx512"), std::string::npos);
}

}  // namespace
}  // namespace troupe::kernels
