#include "kernels/ops/rms_norm.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value rms_norm(Tape& tape, const Value& x, const Value& weight, double epsilon, DType output) {
  TROUPE_CHECK(x.shape().dims() >= 1 && weight.shape() == Shape{x.dim(-1)}, "rms_norm: x {}, weight {}",
               x.shape().to_string(), weight.shape().to_string());
  TROUPE_CHECK(
      (x.dtype() == DType::f64) == (output == DType::f64) && (weight.dtype() == DType::f64) == (output == DType::f64),
      "rms_norm: x {}, weight {}, output {}", name_of(x.dtype()), name_of(weight.dtype()), name_of(output));
  Device& device = tape.device();
  const bool keep = tape.would_record({x, weight});
  Tensor y = Tensor::empty(device, output, x.shape());
  Tensor inverse_rms;
  if (keep) inverse_rms = Tensor::empty(device, accumulator_of(output), {x.tensor().rows()});
  device.kernels().rms_norm.forward(device, x.tensor(), weight.tensor(), epsilon, y, inverse_rms);
  return tape.record("rms_norm", std::move(y), {x, weight},
                     [input = keep ? x.tensor() : Tensor(), weight, inverse_rms](Backward& back) {
                       GradientTarget dx, dweight;
                       if (back.wants(0)) dx = back.target(0);
                       if (back.wants(1)) dweight = back.target(1);
                       if (!dx.tensor.defined() && !dweight.tensor.defined()) return;
                       back.device().kernels().rms_norm.backward(back.device(), input, weight.tensor(), inverse_rms,
                                                                 back.output_gradient(), dx, dweight);
                     });
}

}  // namespace troupe::kernels
