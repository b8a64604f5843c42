#include "kernels/ops/add.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value add(Tape& tape, const Value& x, const Value& y) {
  TROUPE_CHECK(x.shape() == y.shape(), "add: x {}, y {}", x.shape().to_string(), y.shape().to_string());
  Device& device = tape.device();
  Tensor z = Tensor::empty(device, x.dtype(), x.shape());
  device.kernels().add.forward(device, x.tensor(), y.tensor(), z);
  return tape.record("add", std::move(z), {x, y}, [](Backward& back) {
    for (int input : {0, 1}) {
      if (back.wants(input)) back.give(input, back.output_gradient());
    }
  });
}

Value operator+(const Value& x, const Value& y) {
  TROUPE_CHECK(x.defined() && y.defined(), "add: an undefined value");
  return add(x.tape(), x, y);
}

}  // namespace troupe::kernels
