#include "kernels/ops/adamw.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

void adamw(const AdamWStep& step, const Tensor& gradient, Tensor& master, Tensor& first_moment, Tensor& second_moment,
           Tensor compute) {
  for (const Tensor* other :
       {&gradient, static_cast<const Tensor*>(&first_moment), static_cast<const Tensor*>(&second_moment)}) {
    TROUPE_CHECK(other->elements() == master.elements() && other->dtype() == master.dtype(),
                 "adamw: master {} {}, other {} {}", name_of(master.dtype()), master.shape().to_string(),
                 name_of(other->dtype()), other->shape().to_string());
  }
  TROUPE_CHECK(master.dtype() == DType::f32 || master.dtype() == DType::f64, "adamw: master {}",
               name_of(master.dtype()));
  TROUPE_CHECK(!compute.defined() || compute.elements() == master.elements(), "adamw: master {}, compute {}",
               master.shape().to_string(), compute.shape().to_string());
  TROUPE_CHECK(step.step >= 1, "adamw: step {}; the first is 1", step.step);
  Device& device = master.device();
  device.kernels().adamw.step(device, step, gradient, master, first_moment, second_moment, compute);
}

}  // namespace troupe::kernels
