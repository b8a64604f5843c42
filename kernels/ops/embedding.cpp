#include "kernels/ops/embedding.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value embedding(Tape& tape, const Tensor& tokens, const Value& table, DType output) {
  TROUPE_CHECK(tokens.dtype() == DType::i32 && table.shape().dims() == 2 && tokens.shape().dims() < Shape::kMaxDims,
               "embedding: tokens {} {}, table {}", name_of(tokens.dtype()), tokens.shape().to_string(),
               table.shape().to_string());
  TROUPE_CHECK((table.dtype() == DType::f64) == (output == DType::f64), "embedding: table {}, output {}",
               name_of(table.dtype()), name_of(output));
  const int32_t* ids = tokens.data<int32_t>();
  for (int64_t t = 0; t < tokens.elements(); ++t)
    TROUPE_CHECK(ids[t] >= 0, "embedding: token {} at index {}", ids[t], t);
  Device& device = tape.device();
  std::vector<int64_t> sizes(tokens.shape().sizes().begin(), tokens.shape().sizes().end());
  sizes.push_back(table.dim(1));
  Tensor y = Tensor::empty(device, output, Shape(sizes));
  device.kernels().embedding.forward(device, tokens, table.tensor(), y);
  return tape.record("embedding", std::move(y), {table}, [tokens](Backward& back) {
    if (!back.wants(0)) return;
    back.device().kernels().embedding.backward(back.device(), tokens, back.output_gradient(), back.target(0));
  });
}

}  // namespace troupe::kernels
