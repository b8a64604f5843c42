#include "kernels/ops/gelu.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

const char* operation_name(Activation kind) {
  switch (kind) {
    case Activation::gelu: return "gelu";
    case Activation::gelu_tanh: return "gelu_tanh";
    case Activation::silu: return "silu";
    case Activation::relu_squared: return "relu_squared";
  }
  return "activation";
}

}  // namespace

Value activation(Tape& tape, Activation kind, const Value& x) {
  Device& device = tape.device();
  Tensor y = Tensor::empty(device, x.dtype(), x.shape());
  device.kernels().activation.forward(device, kind, x.tensor(), y);
  const bool keep = tape.would_record({x});
  return tape.record(operation_name(kind), std::move(y), {x},
                     [kind, input = keep ? x.tensor() : Tensor()](Backward& back) {
                       if (!back.wants(0)) return;
                       Device& on = back.device();
                       Tensor dx = input.unique() ? input : Tensor::empty(on, input.dtype(), input.shape());
                       on.kernels().activation.backward(on, kind, input, back.output_gradient(), dx);
                       back.give(0, std::move(dx));
                     });
}

}  // namespace troupe::kernels
