#include "kernels/ops/softmax_cross_entropy.h"

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Value softmax_cross_entropy(Tape& tape, const Value& logits, const Tensor& labels,
                            const SoftmaxCrossEntropyOptions& options, const GatherParts& gather) {
  TROUPE_CHECK(logits.shape().dims() == 2 && labels.dtype() == DType::i32 && labels.shape() == Shape{logits.dim(0)},
               "softmax_cross_entropy: logits {}, labels {} {}", logits.shape().to_string(), name_of(labels.dtype()),
               labels.shape().to_string());
  SoftmaxCrossEntropyOptions resolved = options;
  if (resolved.vocabulary == 0) resolved.vocabulary = options.first + logits.dim(1);
  TROUPE_CHECK(gather || (options.first == 0 && resolved.vocabulary <= logits.dim(1)),
               "softmax_cross_entropy: a vocabulary of {} in rows of {} from {} on", resolved.vocabulary, logits.dim(1),
               options.first);
  Device& device = tape.device();
  const SoftmaxCrossEntropyKernels& kernels = device.kernels().softmax_cross_entropy;
  const DType sums = accumulator_of(logits.dtype());
  const int64_t rows = logits.dim(0);
  Tensor targets = Tensor::empty(device, sums, {rows});
  Tensor parts = Tensor::empty(device, sums, {rows});
  kernels.forward(device, logits.tensor(), labels, resolved, targets, parts);
  targets = gather ? gather(targets) : targets.reshape({1, rows});
  parts = gather ? gather(parts) : parts.reshape({1, rows});
  Tensor losses = Tensor::empty(device, sums, {rows});
  Tensor logsumexp = Tensor::empty(device, sums, {rows});
  kernels.join(device, labels, resolved, targets, parts, losses, logsumexp);
  const bool keep = tape.would_record({logits});
  return tape.record("softmax_cross_entropy", std::move(losses), {logits},
                     [kept = keep ? logits.tensor() : Tensor(), labels, resolved, logsumexp](Backward& back) {
                       if (!back.wants(0)) return;
                       Device& on = back.device();
                       Tensor gradient = kept;
                       on.kernels().softmax_cross_entropy.backward(on, gradient, labels, resolved, logsumexp,
                                                                   back.output_gradient());
                       back.give(0, std::move(gradient));
                     });
}

}  // namespace troupe::kernels
