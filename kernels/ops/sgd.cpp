#include "kernels/ops/sgd.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

void sgd(const SgdStep& step, const Tensor& gradient, Tensor& master, Tensor compute) {
  TROUPE_CHECK(gradient.elements() == master.elements() && gradient.dtype() == master.dtype(),
               "sgd: master {} {}, gradient {} {}", name_of(master.dtype()), master.shape().to_string(),
               name_of(gradient.dtype()), gradient.shape().to_string());
  TROUPE_CHECK(master.dtype() == DType::f32 || master.dtype() == DType::f64, "sgd: master {}", name_of(master.dtype()));
  TROUPE_CHECK(!compute.defined() || compute.elements() == master.elements(), "sgd: master {}, compute {}",
               master.shape().to_string(), compute.shape().to_string());
  master.device().kernels().sgd.step(master.device(), step, gradient, master, compute);
}

}  // namespace troupe::kernels
