#include "kernels/ops/tensor_kernels.h"

#include <gtest/gtest.h>

#include <bit>

#include "tests/unit/kernels/op_check.h"

namespace troupe::kernels::testing {
namespace {

TEST(TensorKernels, ConvertToBf16RoundsEveryPatternAsTheScalarTypeDoes) {
  const auto device = make_cpu_device(2);
  std::vector<float> values;  // every upper half, with lower halves about the tie
  for (uint32_t high = 0; high < 65536; ++high) {
    for (uint32_t low : {0x0000u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      values.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  const Tensor from = Tensor::from<float>(*device, values, {static_cast<int64_t>(values.size())});
  for_each_target([&](const char*) {
    const Tensor to = from.to(DType::bf16);
    const std::span<const bf16> found = to.span<bf16>();
    int64_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) wrong += found[i].bits != bf16(values[i]).bits;
    EXPECT_EQ(wrong, 0);
    const Tensor back = to.to(DType::f32);
    wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      wrong += std::bit_cast<uint32_t>(back.span<float>()[i]) != uint32_t{found[i].bits} << 16;
    }
    EXPECT_EQ(wrong, 0);
  });
}

TEST(TensorKernels, AddIntoAddsAnyTwoTypesOnce) {
  const auto device = make_cpu_device(3);
  for (DType from_type : {DType::f64, DType::f32, DType::bf16}) {
    for (DType to_type : {DType::f64, DType::f32, DType::bf16}) {
      for (int64_t size : kOddSizes) {
        const Tensor from = normal_tensor(*device, from_type, {size}, 1);
        const Tensor start = normal_tensor(*device, to_type, {size}, 2);
        for_each_target([&](const char*) {
          Tensor to = start.to(to_type);
          device->kernels().tensor.add_into(*device, from, to);
          const std::vector<double> a = from.to_host<double>(), b = start.to_host<double>(), c = to.to_host<double>();
          const double rounding = to_type == DType::bf16 ? 4e-3 : to_type == DType::f32 ? 1e-7 : 1e-15;
          for (size_t i = 0; i < c.size(); ++i) {
            ASSERT_NEAR(c[i], a[i] + b[i], rounding * (std::abs(a[i]) + std::abs(b[i])));
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace troupe::kernels::testing
