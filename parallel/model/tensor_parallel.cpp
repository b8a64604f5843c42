#include "parallel/model/tensor_parallel.h"

#include <optional>
#include <utility>

#include "kernels/ops/embedding.h"
#include "kernels/ops/kernels.h"
#include "kernels/ops/linear.h"

namespace troupe::parallel {

using kernels::Backward;
using kernels::Device;
using kernels::GradientTarget;
using kernels::MatmulForm;
using kernels::MemoryKind;
using kernels::Shape;

namespace {

Shape with_dimension(const Shape& shape, int dimension, int64_t size) {
  std::vector<int64_t> sizes(shape.sizes().begin(), shape.sizes().end());
  sizes[static_cast<size_t>(dimension)] = size;
  return Shape(sizes);
}

Shape with_leading(int64_t first, int64_t second, const Shape& rest) {
  std::vector<int64_t> sizes{first, second};
  for (int i = 1; i < rest.dims(); ++i) sizes.push_back(rest[i]);
  return Shape(sizes);
}

// Ranks stand first in what a communicator gathers and reduces, sequences in what layers see.
class Gathering {
 public:
  Gathering(Communicator& tensor, const Tensor& x)
      : ranks_(tensor.size()),
        from_(x),
        all_(Tensor::empty(x.device(), x.dtype(), with_leading(ranks_, x.dim(0), x.shape()))),
        pending_(tensor.all_gather(x, all_)) {}

  Tensor wait() {
    pending_.wait();
    const Shape whole = with_dimension(from_.shape(), 1, ranks_ * from_.dim(1));
    if (from_.dim(0) == 1) return all_.reshape(whole);
    Tensor result = Tensor::empty(from_.device(), from_.dtype(), whole);
    from_.device().kernels().tensor.swap_leading(from_.device(), all_, result);
    return result;
  }

 private:
  int64_t ranks_;
  Tensor from_, all_;
  Pending pending_;
};

class Summing {
 public:
  Summing(Communicator& tensor, const Tensor& x) : all_(x) {
    const int64_t t = tensor.size(), B = x.dim(0), T = x.dim(1);
    TROUPE_CHECK(T % t == 0, "{} tokens over {} tensor ranks", T, t);
    result_ = Tensor::empty(x.device(), x.dtype(), with_dimension(x.shape(), 1, T / t));
    if (B > 1) {
      // [B, t, rest] → [t, B, rest]
      all_ = Tensor::empty(x.device(), x.dtype(), x.shape());
      const int64_t rest = x.elements() / (B * t);
      x.device().kernels().tensor.swap_leading(x.device(), x.reshape({B, t, rest}), all_);
    }
    pending_ = tensor.reduce_scatter(all_, result_);
  }

  Tensor wait() {
    pending_.wait();
    all_ = Tensor();
    return std::move(result_);
  }

 private:
  Tensor all_, result_;
  Pending pending_;
};

Tensor rounded(const Tensor& x, kernels::DType dtype) { return x.dtype() == dtype ? x : x.to(dtype); }

Tensor multiply(Device& device, const Tensor& x, const LinearParameters& layer, bool with_bias, kernels::DType output) {
  const Tensor& weight = layer.weight.tensor();
  TROUPE_CHECK(x.dim(-1) == weight.dim(1), "linear: input {} for a weight {}", x.shape().to_string(),
               weight.shape().to_string());
  Tensor y = Tensor::empty(device, output, with_dimension(x.shape(), x.shape().dims() - 1, weight.dim(0)));
  kernels::MatmulOptions options;
  const Tensor bias = with_bias && layer.bias.defined() ? layer.bias.tensor() : Tensor();
  if (bias.defined()) options.bias = &bias;
  device.kernels().matmul.multiply(device, MatmulForm::nt, x, weight, y, options);
  return y;
}

}  // namespace

Tensor gather_tokens(Communicator& tensor, const Tensor& x) { return Gathering(tensor, x).wait(); }

Tensor sum_tokens(Communicator& tensor, const Tensor& x) { return Summing(tensor, x).wait(); }

std::vector<Value> column_linears(Tape& tape, Communicator& tensor, const Value& x,
                                  std::span<const LinearParameters> layers) {
  std::vector<Value> inputs{x};
  std::vector<Tensor> outputs;
  if (tensor.size() == 1) {
    std::vector<Value> results;
    for (const LinearParameters& layer : layers) results.push_back(linear(tape, x, layer.weight, layer.bias));
    return results;
  }
  const Tensor whole = gather_tokens(tensor, x.tensor());
  for (const LinearParameters& layer : layers) {
    outputs.push_back(multiply(tape.device(), whole, layer, true, whole.dtype()));
    inputs.push_back(layer.weight);
    inputs.push_back(layer.bias);
  }
  const auto backward = [&tensor, input = x.tensor(),
                         layers = std::vector(layers.begin(), layers.end())](Backward& back) {
    Device& device = back.device();
    const kernels::Kernels& kernels = device.kernels();
    const auto gradient_of = [&](size_t layer) { return back.output_gradient(static_cast<int>(layer)); };
    const auto wants = [&](size_t layer, int parameter) {
      return gradient_of(layer).defined() && back.wants(1 + 2 * static_cast<int>(layer) + parameter);
    };
    bool any_weight = false;
    for (size_t i = 0; i < layers.size(); ++i) any_weight = any_weight || wants(i, 0);

    std::optional<Gathering> gathering;
    if (any_weight) gathering.emplace(tensor, input);
    std::optional<Summing> summing;
    if (back.wants(0)) {
      Tensor dx = Tensor::empty(device, kernels::accumulator_of(input.dtype()),
                                with_dimension(input.shape(), 1, tensor.size() * input.dim(1)));
      bool accumulate = false;
      for (size_t i = 0; i < layers.size(); ++i) {
        if (!gradient_of(i).defined()) continue;
        kernels.matmul.multiply(device, MatmulForm::nn, gradient_of(i), layers[i].weight.tensor(), dx,
                                {.accumulate = std::exchange(accumulate, true)});
      }
      if (!accumulate) dx.fill_zero();
      summing.emplace(tensor, dx);
    }
    const Tensor whole_input = gathering ? gathering->wait() : Tensor();
    for (size_t i = 0; i < layers.size(); ++i) {
      if (wants(i, 0)) {
        GradientTarget dw = back.target(1 + 2 * static_cast<int>(i));
        kernels.matmul.multiply(device, MatmulForm::tn, gradient_of(i), whole_input, dw.tensor,
                                {.accumulate = dw.accumulate});
      }
      if (layers[i].bias.defined() && wants(i, 1))
        kernels.linear.column_sum(device, gradient_of(i), back.target(2 + 2 * static_cast<int>(i)));
    }
    if (summing) back.give(0, rounded(summing->wait(), input.dtype()));
  };
  return tape.record("linear", std::move(outputs), inputs, backward);
}

Value row_linear(Tape& tape, Communicator& tensor, const Value& x, const LinearParameters& layer) {
  if (tensor.size() == 1) return linear(tape, x, layer.weight, layer.bias);
  const kernels::DType sums = kernels::accumulator_of(x.dtype());
  Tensor y = sum_tokens(tensor, multiply(tape.device(), x.tensor(), layer, false, sums));
  if (layer.bias.defined()) tape.device().kernels().linear.add_rows(tape.device(), layer.bias.tensor(), y);
  y = rounded(y, x.dtype());
  const bool keep = tape.would_record({x, layer.weight, layer.bias});
  return tape.record("linear", std::move(y), {x, layer.weight, layer.bias},
                     [&tensor, layer, input = keep ? x.tensor() : Tensor()](Backward& back) {
                       Device& device = back.device();
                       const kernels::Kernels& kernels = device.kernels();
                       std::optional<Gathering> gathering;
                       if (back.wants(0) || back.wants(1)) gathering.emplace(tensor, back.output_gradient());
                       if (layer.bias.defined() && back.wants(2))
                         kernels.linear.column_sum(device, back.output_gradient(), back.target(2));
                       if (!gathering) return;
                       const Tensor dy = gathering->wait();
                       if (back.wants(0)) {
                         GradientTarget dx = back.target(0);
                         kernels.matmul.multiply(device, MatmulForm::nn, dy, layer.weight.tensor(), dx.tensor,
                                                 {.accumulate = dx.accumulate});
                       }
                       if (back.wants(1)) {
                         GradientTarget dw = back.target(1);
                         kernels.matmul.multiply(device, MatmulForm::tn, dy, input, dw.tensor,
                                                 {.accumulate = dw.accumulate});
                       }
                     });
}

Value split_embedding(Tape& tape, Communicator& tensor, const Tensor& tokens, const Value& table, int64_t first,
                      int64_t vocabulary, kernels::DType output) {
  if (tensor.size() == 1) return embedding(tape, tokens, table, output);
  Device& device = tape.device();
  std::vector<int32_t> ids = tokens.to_host<int32_t>();
  for (size_t i = 0; i < ids.size(); ++i) {
    TROUPE_CHECK(0 <= ids[i] && ids[i] < vocabulary, "embedding: token {} at index {}, the vocabulary has {}", ids[i],
                 i, vocabulary);
    const int64_t row = ids[i] - first;
    ids[i] = 0 <= row && row < table.dim(0) ? static_cast<int32_t>(row) : -1;
  }
  const Tensor rows = Tensor::from<int32_t>(device, ids, tokens.shape(), MemoryKind::buffers);
  Tensor y = Tensor::empty(device, output, {tokens.dim(0), tokens.dim(1), table.dim(1)});
  device.kernels().embedding.forward(device, rows, table.tensor(), y);
  return tape.record("embedding", sum_tokens(tensor, y), {table}, [&tensor, rows](Backward& back) {
    if (!back.wants(0)) return;
    const Tensor dy = gather_tokens(tensor, back.output_gradient());
    back.device().kernels().embedding.backward(back.device(), rows, dy, back.target(0));
  });
}

}  // namespace troupe::parallel
