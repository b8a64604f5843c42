#include "kernels/ops/linear.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value linear(Tape& tape, const Value& x, const Value& weight, const Value& bias) {
  Device& device = tape.device();
  const MatmulKernels& matmul = device.kernels().matmul;
  const Tensor& input = x.tensor();
  const PackedMatrix* packed = weight.leaf() ? weight.leaf()->packed() : nullptr;
  const int64_t N = packed ? packed->N : weight.dim(0), K = packed ? packed->K : weight.dim(1);
  TROUPE_CHECK(input.dim(-1) == K, "linear: input {} for a weight [{}, {}]", input.shape().to_string(), N, K);
  TROUPE_CHECK(!bias.defined() || bias.tensor().elements() == N, "linear: bias {} for a weight [{}, {}]",
               bias.tensor().shape().to_string(), N, K);

  std::vector<int64_t> sizes(input.shape().sizes().begin(), input.shape().sizes().end());
  sizes.back() = N;
  Tensor output = Tensor::empty(device, input.dtype(), Shape(sizes));
  MatmulOptions options;
  const Tensor bias_tensor = bias.defined() ? bias.tensor() : Tensor();
  if (bias.defined()) options.bias = &bias_tensor;
  if (packed) matmul.multiply_packed(device, input, *packed, output, options);
  else matmul.multiply(device, MatmulForm::nt, input, weight.tensor(), output, options);

  if (!tape.would_record({x, weight, bias})) return tape.record("linear", std::move(output), {x, weight, bias}, {});
  return tape.record("linear", std::move(output), {x, weight, bias}, [input, weight](Backward& back) {
    Device& on = back.device();
    const Kernels& kernels = on.kernels();
    const Tensor& dy = back.output_gradient();
    if (back.wants(0)) {
      GradientTarget dx = back.target(0);
      kernels.matmul.multiply(on, MatmulForm::nn, dy, weight.tensor(), dx.tensor, {.accumulate = dx.accumulate});
    }
    if (back.wants(1)) {
      GradientTarget dw = back.target(1);
      kernels.matmul.multiply(on, MatmulForm::tn, dy, input, dw.tensor, {.accumulate = dw.accumulate});
    }
    if (back.wants(2)) kernels.linear.column_sum(on, dy, back.target(2));
  });
}

}  // namespace troupe::kernels
