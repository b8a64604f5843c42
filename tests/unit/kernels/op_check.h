// Runs one function of the tape in f32 or bf16 and in f64 on the same numbers, on every SIMD target that this
// CPU has, and on several thread counts: results agree within rounding, threads not at all in the bits.
#pragma once
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tests/unit/kernels/gradient_check.h"

namespace troupe::kernels::testing {

// Rows of these widths meet every tail: below, at and above the lanes of each target, and odd.
inline const std::vector<int64_t> kOddSizes = {1, 3, 7, 8, 16, 17, 63, 64, 65, 129, 1000};

// Calls body(target's name) with each generated SIMD target that this CPU supports in force.
inline void for_each_target(const std::function<void(const char*)>& body) {
  const auto choose = [](int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    choose(target);
    SCOPED_TRACE(hwy::TargetName(target));
    body(hwy::TargetName(target));
  }
  choose(0);
}

// `compute` is the dtype to ask operations for.
using OpFunction =
    std::function<Value(Tape& tape, std::span<const Value> inputs, std::span<const Value> weights, DType compute)>;

struct OpResult {
  std::vector<std::string> names;
  std::vector<std::vector<double>> arrays;  // the output, then each input's gradient, then each weight's
};

// One forward and backward pass. The gradient of the result is standard normal, rounded to `gradient`.
inline OpResult run_op(Device& device, const OpFunction& f, const std::vector<Tensor>& inputs,
                       const std::vector<Tensor>& weights, DType compute, DType gradient, double preset = 0) {
  Tape tape(device);
  std::vector<TestLeaf> leaves;
  leaves.reserve(weights.size());
  std::vector<Value> x, w;
  for (const Tensor& tensor : inputs) x.push_back(tape.input(tensor.to(tensor.dtype())));
  for (const Tensor& tensor : weights) {
    leaves.emplace_back("w", tensor);
    if (preset != 0) leaves.back().preset(preset);
    w.push_back(tape.parameter(leaves.back()));
  }
  const Value result = f(tape, x, w, compute);
  OpResult out{{"output"}, {result.tensor().to_host<double>()}};
  const Tensor direction = normal_tensor(device, gradient, result.shape(), 99).to(result.dtype());
  tape.backward(std::vector{result}, std::vector{direction});
  for (size_t i = 0; i < x.size(); ++i) {
    out.names.push_back("gradient of input " + std::to_string(i));
    out.arrays.push_back(tape.gradient(x[i]).to_host<double>());
  }
  for (size_t i = 0; i < w.size(); ++i) {
    out.names.push_back("gradient of weight " + std::to_string(i));
    out.arrays.push_back(leaves[i].accumulated().to_host<double>());
  }
  return out;
}

// Element by element: |found - exact| ≤ tolerance · (|exact| + rms(exact)).
inline void expect_close(const OpResult& found, const OpResult& exact, double tolerance) {
  for (size_t a = 0; a < exact.arrays.size(); ++a) {
    ASSERT_EQ(found.arrays[a].size(), exact.arrays[a].size());
    double squares = 0;
    for (double value : exact.arrays[a]) squares += value * value;
    const double rms = std::sqrt(squares / static_cast<double>(std::max<size_t>(exact.arrays[a].size(), 1)));
    for (size_t i = 0; i < exact.arrays[a].size(); ++i) {
      const double expected = exact.arrays[a][i];
      ASSERT_NEAR(found.arrays[a][i], expected, tolerance * (std::abs(expected) + rms))
          << exact.names[a] << ", element " << i << " of " << exact.arrays[a].size();
    }
  }
}

// Rounding to f32 is 6e-8 and to bf16 4e-3 of a value; sums of a thousand f32 terms and three roundings on the
// way make the former 1e-5; results in bf16 are rounded once or, where gradients meet, twice.
inline double tolerance_of(DType type) { return type == DType::bf16 ? 8e-3 : 1e-5; }

// f on values of the given dtypes, on 1 to 3 threads and every target, against f64 on the same values.
inline void expect_matches_f64(const OpFunction& f, const std::vector<Shape>& inputs, DType stream,
                               const std::vector<Shape>& weights, DType compute, double scale = 1) {
  const auto device = make_cpu_device(1);
  std::vector<Tensor> x, w, wide_x, wide_w;
  for (const Shape& shape : inputs) x.push_back(normal_tensor(*device, stream, shape, 11 + x.size(), scale));
  for (const Shape& shape : weights) w.push_back(normal_tensor(*device, compute, shape, 51 + w.size()));
  for (const Tensor& tensor : x) wide_x.push_back(tensor.to(DType::f64));
  for (const Tensor& tensor : w) wide_w.push_back(tensor.to(DType::f64));
  const OpResult exact = run_op(*device, f, wide_x, wide_w, DType::f64, compute);
  const double tolerance = std::max(tolerance_of(compute), tolerance_of(stream));
  for_each_target([&](const char*) {
    const OpResult found = run_op(*device, f, x, w, compute, compute);
    expect_close(found, exact, tolerance);
    for (int threads : {2, 3}) {
      const auto other = make_cpu_device(threads);
      const OpResult again = run_op(*other, f, x, w, compute, compute);
      for (size_t a = 0; a < found.arrays.size(); ++a) {
        EXPECT_EQ(found.arrays[a], again.arrays[a]) << found.names[a] << " on " << threads << " threads";
      }
    }
    // Weights' gradients add to what is there: 0.5 is exact in every dtype, the sum is rounded once more.
    const OpResult added = run_op(*device, f, x, w, compute, compute, 0.5);
    for (size_t a = 1 + x.size(); a < found.arrays.size(); ++a) {
      for (size_t i = 0; i < found.arrays[a].size(); ++i) {
        ASSERT_NEAR(added.arrays[a][i], found.arrays[a][i] + 0.5, 1e-6 * (1 + std::abs(found.arrays[a][i])));
      }
    }
  });
}

struct DTypePair {
  DType stream;   // of the residual stream
  DType compute;  // of weights and branches
};
inline const std::vector<DTypePair> kDTypePairs = {
    {DType::f32, DType::f32}, {DType::f32, DType::bf16}, {DType::bf16, DType::bf16}};

inline std::string trace_of(DTypePair pair, int64_t size) {
  return fmt::format("stream {}, compute {}, size {}", name_of(pair.stream), name_of(pair.compute), size);
}

}  // namespace troupe::kernels::testing
