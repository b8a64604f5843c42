#include "kernels/ops/grouped_linear.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

namespace {

Tensor rounded(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : x.to(dtype); }

}  // namespace

Value grouped_linear(Tape& tape, const Value& x, const std::vector<int64_t>& offsets, const Value& weight,
                     DType output) {
  Device& device = tape.device();
  const Tensor input = rounded(x.tensor(), weight.dtype());
  Tensor y = Tensor::empty(device, output, {x.dim(0), weight.dim(1)});
  device.kernels().matmul.grouped(device, MatmulForm::nt, input, weight.tensor(), y, offsets, {});
  if (!tape.would_record({x, weight})) return tape.record("grouped_linear", std::move(y), {x, weight}, {});
  return tape.record("grouped_linear", std::move(y), {x, weight}, [input, weight, offsets](Backward& back) {
    Device& on = back.device();
    const MatmulKernels& matmul = on.kernels().matmul;
    const Tensor dy = rounded(back.output_gradient(), input.dtype());
    if (back.wants(0)) {
      GradientTarget dx = back.target(0);
      matmul.grouped(on, MatmulForm::nn, dy, weight.tensor(), dx.tensor, offsets, {.accumulate = dx.accumulate});
    }
    if (back.wants(1)) {
      GradientTarget dw = back.target(1);
      matmul.grouped(on, MatmulForm::tn, dy, input, dw.tensor, offsets, {.accumulate = dw.accumulate});
    }
  });
}

}  // namespace troupe::kernels
