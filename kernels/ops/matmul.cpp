#include "kernels/ops/matmul.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

void multiply(Device& device, MatmulForm form, const Tensor& a, const Tensor& b, const GradientTarget& c) {
  Tensor to = c.tensor;
  device.kernels().matmul.batched(device, form, a, b, to, {.accumulate = c.accumulate});
}

}  // namespace

Value matmul(Tape& tape, MatmulForm form, const Value& a, const Value& b) {
  const Shape& sa = a.shape();
  const Shape& sb = b.shape();
  const int dims = sa.dims();
  bool fits = dims >= 2 && sb.dims() == dims && a.dtype() == b.dtype();
  for (int i = 0; fits && i < dims - 2; ++i) fits = sa[i] == sb[i];
  fits = fits && (form == MatmulForm::tn ? sa[-2] : sa[-1]) == (form == MatmulForm::nt ? sb[-1] : sb[-2]);
  TROUPE_CHECK(fits, "matmul: {} {} and {} {} do not fit", name_of(a.dtype()), sa.to_string(), name_of(b.dtype()),
               sb.to_string());

  std::vector<int64_t> sizes(sa.sizes().begin(), sa.sizes().end());
  sizes[sizes.size() - 2] = form == MatmulForm::tn ? sa[-1] : sa[-2];
  sizes.back() = form == MatmulForm::nt ? sb[-2] : sb[-1];
  Tensor c = Tensor::empty(tape.device(), a.dtype(), Shape(sizes));
  multiply(tape.device(), form, a.tensor(), b.tensor(), {c, false});
  if (!tape.would_record({a, b})) return tape.record("matmul", std::move(c), {a, b}, {});
  return tape.record("matmul", std::move(c), {a, b}, [form, left = a.tensor(), right = b.tensor()](Backward& back) {
    Device& on = back.device();
    const Tensor& dc = back.output_gradient();
    using enum MatmulForm;
    if (back.wants(0)) {
      const GradientTarget da = back.target(0);
      if (form == nt) multiply(on, nn, dc, right, da);
      if (form == nn) multiply(on, nt, dc, right, da);
      if (form == tn) multiply(on, nt, right, dc, da);
    }
    if (back.wants(1)) {
      const GradientTarget db = back.target(1);
      if (form == nt) multiply(on, tn, dc, left, db);
      if (form == nn) multiply(on, tn, left, dc, db);
      if (form == tn) multiply(on, nn, left, dc, db);
    }
  });
}

}  // namespace troupe::kernels
