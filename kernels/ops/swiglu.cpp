#include "kernels/ops/swiglu.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value gated(Tape& tape, Activation kind, const Value& gate, const Value& up) {
  TROUPE_CHECK(gate.shape() == up.shape() && gate.dtype() == up.dtype(), "gated unit: gate {} {}, up {} {}",
               name_of(gate.dtype()), gate.shape().to_string(), name_of(up.dtype()), up.shape().to_string());
  Device& device = tape.device();
  Tensor y = Tensor::empty(device, gate.dtype(), gate.shape());
  device.kernels().gated.forward(device, kind, gate.tensor(), up.tensor(), y);
  const bool keep = tape.would_record({gate, up});
  return tape.record(kind == Activation::silu ? "swiglu" : "geglu", std::move(y), {gate, up},
                     [kind, g = keep ? gate.tensor() : Tensor(), u = keep ? up.tensor() : Tensor()](Backward& back) {
                       if (!back.wants(0) && !back.wants(1)) return;
                       Device& on = back.device();
                       Tensor dgate = g.unique() ? g : Tensor::empty(on, g.dtype(), g.shape());
                       Tensor dup = u.unique() ? u : Tensor::empty(on, u.dtype(), u.shape());
                       on.kernels().gated.backward(on, kind, g, u, back.output_gradient(), dgate, dup);
                       if (back.wants(0)) back.give(0, std::move(dgate));
                       if (back.wants(1)) back.give(1, std::move(dup));
                     });
}

}  // namespace troupe::kernels
