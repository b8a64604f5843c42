#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {
namespace {

void check_labels(const Tensor& labels, int64_t vocabulary) {
  const int32_t* label = labels.data<int32_t>();
  for (int64_t r = 0; r < labels.elements(); ++r) {
    TROUPE_CHECK(label[r] < vocabulary, "softmax_cross_entropy: label {} in row {}, the vocabulary has {}", label[r], r,
                 vocabulary);
  }
}

template <class A>
A capped(A logit, A cap) {
  return cap > 0 ? cap * std::tanh(logit / cap) : logit;
}

void forward(Device& device, const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options,
             Tensor& losses, Tensor& logsumexp) {
  const int64_t stride = logits.dim(-1);
  const int64_t vocabulary = options.vocabulary;
  check_labels(labels, vocabulary);
  dispatch_float(logits.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const A cap = static_cast<A>(options.softcap);
    const A smoothing = static_cast<A>(options.label_smoothing);
    device.threads().parallel_for(labels.elements(), [&](int64_t r) {
      const int32_t label = labels.data<int32_t>()[r];
      const X* row = logits.data<X>() + r * stride;
      if (label < 0) {
        losses.data<A>()[r] = 0;
        logsumexp.data<A>()[r] = 0;
        return;
      }
      A maximum = -INFINITY;
      for (int64_t i = 0; i < vocabulary; ++i) maximum = std::max(maximum, capped(read<A>(row[i]), cap));
      A sum = 0, total = 0;
      for (int64_t i = 0; i < vocabulary; ++i) {
        const A z = capped(read<A>(row[i]), cap);
        sum += std::exp(z - maximum);
        total += z;
      }
      const A lse = maximum + std::log(sum);
      logsumexp.data<A>()[r] = lse;
      losses.data<A>()[r] = lse - (1 - smoothing) * capped(read<A>(row[label]), cap) -
                            (smoothing > 0 ? smoothing * total / static_cast<A>(vocabulary) : A(0)) +
                            static_cast<A>(options.z_loss) * lse * lse;
    });
  });
}

// d loss / d z_i = (1 + 2 z_loss · lse) · p_i - ε/V - (1 - ε) · [i = label];  dz / d logit = 1 - (z / cap)².
void backward(Device& device, Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options,
              const Tensor& logsumexp, const Tensor& dlosses) {
  const int64_t stride = logits.dim(-1);
  const int64_t vocabulary = options.vocabulary;
  dispatch_float(logits.dtype(), [&]<class X>() {
    using A = Accumulator<X>;
    const A cap = static_cast<A>(options.softcap);
    const A smoothing = static_cast<A>(options.label_smoothing);
    device.threads().parallel_for(labels.elements(), [&](int64_t r) {
      const int32_t label = labels.data<int32_t>()[r];
      X* row = logits.data<X>() + r * stride;
      const A scale = label < 0 ? A(0) : dlosses.data<A>()[r];
      const A lse = logsumexp.data<A>()[r];
      const A share = 1 + 2 * static_cast<A>(options.z_loss) * lse;
      for (int64_t i = 0; i < vocabulary; ++i) {
        if (scale == 0) {
          row[i] = X(A(0));
          continue;
        }
        const A z = capped(read<A>(row[i]), cap);
        A d = share * std::exp(z - lse) - smoothing / static_cast<A>(vocabulary) - (i == label ? 1 - smoothing : A(0));
        if (cap > 0) d *= 1 - (z / cap) * (z / cap);
        row[i] = static_cast<X>(d * scale);
      }
      for (int64_t i = vocabulary; i < stride; ++i) row[i] = X(A(0));
    });
  });
}

}  // namespace

SoftmaxCrossEntropyKernels softmax_cross_entropy_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
