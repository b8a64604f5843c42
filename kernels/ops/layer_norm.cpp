#include "kernels/ops/layer_norm.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value layer_norm(Tape& tape, const Value& x, const Value& weight, const Value& bias, double epsilon, DType output) {
  TROUPE_CHECK(x.shape().dims() >= 1 && weight.shape() == Shape{x.dim(-1)}, "layer_norm: x {}, weight {}",
               x.shape().to_string(), weight.shape().to_string());
  TROUPE_CHECK(!bias.defined() || (bias.shape() == weight.shape() && bias.dtype() == weight.dtype()),
               "layer_norm: weight {} {}, bias {} {}", name_of(weight.dtype()), weight.shape().to_string(),
               name_of(bias.dtype()), bias.shape().to_string());
  TROUPE_CHECK(
      (x.dtype() == DType::f64) == (output == DType::f64) && (weight.dtype() == DType::f64) == (output == DType::f64),
      "layer_norm: x {}, weight {}, output {}", name_of(x.dtype()), name_of(weight.dtype()), name_of(output));
  Device& device = tape.device();
  const bool keep = tape.would_record({x, weight, bias});
  Tensor y = Tensor::empty(device, output, x.shape());
  Tensor mean, inverse_deviation;
  if (keep) {
    mean = Tensor::empty(device, accumulator_of(output), {x.tensor().rows()});
    inverse_deviation = Tensor::empty(device, accumulator_of(output), {x.tensor().rows()});
  }
  device.kernels().layer_norm.forward(device, x.tensor(), weight.tensor(), bias.defined() ? bias.tensor() : Tensor(),
                                      epsilon, y, mean, inverse_deviation);
  return tape.record("layer_norm", std::move(y), {x, weight, bias},
                     [input = keep ? x.tensor() : Tensor(), weight, mean, inverse_deviation](Backward& back) {
                       GradientTarget dx, dweight, dbias;
                       if (back.wants(0)) dx = back.target(0);
                       if (back.wants(1)) dweight = back.target(1);
                       if (back.wants(2)) dbias = back.target(2);
                       if (!dx.tensor.defined() && !dweight.tensor.defined() && !dbias.tensor.defined()) return;
                       back.device().kernels().layer_norm.backward(back.device(), input, weight.tensor(), mean,
                                                                   inverse_deviation, back.output_gradient(), dx,
                                                                   dweight, dbias);
                     });
}

}  // namespace troupe::kernels
