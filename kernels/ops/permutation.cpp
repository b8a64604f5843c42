#include "kernels/ops/permutation.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

namespace {

Tensor gathered(Device& device, const Tensor& x, const Tensor& index) {
  Tensor y = Tensor::empty(device, x.dtype(), {index.elements(), x.dim(-1)});
  device.kernels().permutation.gather(device, x, index, y);
  return y;
}

}  // namespace

ExpertOrder order_by_expert(Device& device, const Tensor& experts, int64_t E) {
  const int64_t slots = experts.elements(), k = experts.dim(-1);
  Tensor tokens = Tensor::empty(device, DType::i32, {slots}, MemoryKind::buffers);
  Tensor counts = Tensor::empty(device, DType::i64, {E}, MemoryKind::buffers);
  ExpertOrder order;
  order.places = Tensor::empty(device, DType::i32, {slots / k, k});
  device.kernels().permutation.order(device, experts, tokens, order.places, counts);
  order.counts = counts.to_host<int64_t>();
  int64_t rows = 0;
  for (int64_t count : order.counts) rows += count;
  order.tokens = tokens.slice(0, rows);
  return order;
}

Value to_expert_order(Tape& tape, const Value& x, const ExpertOrder& order) {
  TROUPE_CHECK(x.tensor().rows() == order.places.dim(0), "{} in the order of {} tokens' experts", x.shape().to_string(),
               order.places.dim(0));
  return tape.record("to_experts", gathered(tape.device(), x.tensor(), order.tokens), {x},
                     [places = order.places, shape = x.shape(), dtype = x.dtype()](Backward& back) {
                       if (!back.wants(0)) return;
                       Tensor dx = Tensor::empty(back.device(), dtype, shape);
                       back.device().kernels().permutation.combine(back.device(), back.output_gradient(), places, {},
                                                                   dx);
                       back.give(0, std::move(dx));
                     });
}

Value combine_experts(Tape& tape, const Value& rows, const Value& weights, const ExpertOrder& order) {
  TROUPE_CHECK(rows.dim(0) == order.tokens.elements() && weights.tensor().elements() == order.places.elements() &&
                   weights.dtype() == accumulator_of(rows.dtype()),
               "{} rows with weights {} {} for {} rows of {} tokens", rows.dim(0), name_of(weights.dtype()),
               weights.shape().to_string(), order.tokens.elements(), order.places.dim(0));
  Tensor y = Tensor::empty(tape.device(), rows.dtype(), {order.places.dim(0), rows.dim(1)});
  tape.device().kernels().permutation.combine(tape.device(), rows.tensor(), order.places, weights.tensor(), y);
  if (!tape.would_record({rows, weights})) return tape.constant(std::move(y));
  return tape.record("combine", std::move(y), {rows, weights},
                     [results = rows.tensor(), w = weights.tensor(), places = order.places](Backward& back) {
                       Device& device = back.device();
                       const PermutationKernels& kernels = device.kernels().permutation;
                       const Tensor& dy = back.output_gradient();
                       if (back.wants(1)) {
                         Tensor dw = Tensor::empty(device, w.dtype(), w.shape());
                         kernels.dots(device, results, dy, places, dw);
                         back.give(1, std::move(dw));
                       }
                       if (back.wants(0)) {
                         Tensor drows = Tensor::empty(device, results.dtype(), results.shape());
                         kernels.spread(device, dy, places, w, drows);
                         back.give(0, std::move(drows));
                       }
                     });
}

Value permute_rows(Tape& tape, const Value& x, const Tensor& index, const Tensor& inverse) {
  TROUPE_CHECK(x.dim(0) == inverse.elements(), "{} rows permuted, {} places", x.dim(0), inverse.elements());
  return tape.record("permute", gathered(tape.device(), x.tensor(), index), {x}, [inverse](Backward& back) {
    if (back.wants(0)) back.give(0, gathered(back.device(), back.output_gradient(), inverse));
  });
}

}  // namespace troupe::kernels
