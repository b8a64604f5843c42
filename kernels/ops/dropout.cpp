#include "kernels/ops/dropout.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value dropout(Tape& tape, const Value& x, double probability, const DropoutKey& key, const Tensor& sequence_ids,
              const Tensor& positions) {
  TROUPE_CHECK(probability >= 0 && probability < 1, "dropout of {}", probability);
  TROUPE_CHECK(
      x.shape().dims() == 3 && sequence_ids.elements() == x.dim(0) && positions.elements() == x.dim(0) * x.dim(1),
      "dropout: x {}, sequence_ids {}, positions {}", x.shape().to_string(), sequence_ids.shape().to_string(),
      positions.shape().to_string());
  const auto apply = [probability, key, sequence_ids, positions](const Tensor& from) {
    Tensor to = Tensor::empty(from.device(), from.dtype(), from.shape());
    from.device().kernels().dropout.apply(from.device(), from, probability, key, sequence_ids, positions, to);
    return to;
  };
  return tape.record("dropout", apply(x.tensor()), {x}, [apply](Backward& back) {
    if (back.wants(0)) back.give(0, apply(back.output_gradient()));
  });
}

}  // namespace troupe::kernels
