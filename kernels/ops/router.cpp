#include "kernels/ops/router.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

RouterChoice choose_experts(Device& device, const Tensor& z, const RouterOptions& options, const Tensor& bias,
                            const Tensor& indices, const Tensor& given) {
  TROUPE_CHECK(z.shape().dims() == 3 && z.dtype() == accumulator_of(z.dtype()), "router: logits {} {}",
               name_of(z.dtype()), z.shape().to_string());
  const int64_t B = z.dim(0), n = z.dim(1), E = z.dim(2), k = options.per_token;
  TROUPE_CHECK(k >= 1 && k <= E, "router: {} of {} experts", k, E);
  TROUPE_CHECK(!bias.defined() || (bias.elements() == E && bias.dtype() == z.dtype()), "router: bias {} {} for {} {}",
               name_of(bias.dtype()), bias.shape().to_string(), name_of(z.dtype()), z.shape().to_string());
  TROUPE_CHECK(!indices.defined() || (indices.elements() == B * n && indices.dtype() == DType::i32),
               "router: indices {} for logits {}", indices.shape().to_string(), z.shape().to_string());
  RouterChoice choice{.scores = Tensor::empty(device, z.dtype(), z.shape()), .experts = given};
  device.kernels().router.score(device, options.score, z, choice.scores);
  if (given.defined()) {
    TROUPE_CHECK(given.shape() == Shape({B, n, k}) && given.dtype() == DType::i32, "router: experts {} for logits {}",
                 given.shape().to_string(), z.shape().to_string());
    return choice;
  }
  choice.experts = Tensor::empty(device, DType::i32, {B, n, k});
  device.kernels().router.choose(device, choice.scores, bias, indices, choice.experts);
  return choice;
}

Tensor router_statistics(Device& device, const Tensor& z, const RouterChoice& choice) {
  Tensor statistics = Tensor::empty(device, DType::f64, {z.dim(0), 2 * z.dim(2) + 2}, MemoryKind::buffers);
  device.kernels().router.statistics(device, z, choice, statistics);
  return statistics;
}

Value router_weights(Tape& tape, const Value& z, const RouterChoice& choice, const RouterOptions& options,
                     const RouterLossGradients& losses) {
  TROUPE_CHECK(!losses.balance.defined() ||
                   (losses.balance.dtype() == DType::f64 && losses.balance.shape() == Shape({z.dim(0), z.dim(2)})),
               "router: gradients {} of the scores of {}", losses.balance.shape().to_string(), z.shape().to_string());
  Tensor weights = Tensor::empty(tape.device(), z.dtype(), choice.experts.shape());
  tape.device().kernels().router.weigh(tape.device(), options, choice, weights);
  if (!tape.would_record({z})) return tape.constant(std::move(weights));
  return tape.record("router", std::move(weights), {z}, [options, choice, losses, logits = z.tensor()](Backward& back) {
    if (!back.wants(0)) return;
    Tensor dz = Tensor::empty(back.device(), logits.dtype(), logits.shape());
    back.device().kernels().router.backward(back.device(), options, logits, choice, back.output_gradient(), losses, dz);
    back.give(0, std::move(dz));
  });
}

}  // namespace troupe::kernels
