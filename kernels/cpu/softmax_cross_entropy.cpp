#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_cross_entropy.cpp"
#include <hwy/foreach_target.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace troupe::kernels::cpu {
namespace HWY_NAMESPACE {

// Columns of a row that are of the vocabulary.
inline int64_t used_columns(int64_t stride, const SoftmaxCrossEntropyOptions& options) {
  return std::clamp<int64_t>(options.vocabulary - options.first, 0, stride);
}

constexpr int64_t kBlock = 1024;  // logits: 4 KiB stay in the first-level cache between two readings

// z = cap · tanh(x / cap), or x without a cap.
struct Softcap {
  explicit Softcap(double softcap) : cap(static_cast<float>(softcap)) {}
  HWY_INLINE VF operator()(VF x) const { return hn::Set(F(), cap) * hn::Tanh(F(), x * hn::Set(F(), 1.0f / cap)); }
  float cap;
};

struct RowSums {
  double logsumexp;
  double total;  // Σ z, where asked for
};

// By blocks: the block's maximum first, then its sum of exponentials under the largest maximum so far.
template <class X>
RowSums row_sums(const X* x, int64_t count, Softcap softcap, bool want_total) {
  HWY_ALIGN float buffer[kBlock];
  float maximum = std::numeric_limits<float>::lowest();
  double sum = 0, total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t length = std::min(kBlock, count - begin);
    const float* z = buffer;
    if (softcap.cap > 0) {
      for_vectors(length, [&](int64_t i, auto part, auto)
                              HWY_ATTR { store(part, softcap(load(part, x + begin + i)), buffer + i); });
    } else if constexpr (std::is_same_v<X, float>) {
      z = x + begin;
    } else {
      for_vectors(length,
                  [&](int64_t i, auto part, auto) HWY_ATTR { store(part, load(part, x + begin + i), buffer + i); });
    }
    VF highest[4];
    for (VF& h : highest) h = hn::Set(F(), maximum);
    for_vectors(length, [&](int64_t i, auto part, auto k) HWY_ATTR {
      VF v = load(part, z + i);
      if constexpr (std::is_same_v<decltype(part), Part>) {
        v = hn::IfThenElse(hn::FirstN(F(), static_cast<size_t>(part.count)), v, highest[k]);
      }
      highest[k] = hn::Max(highest[k], v);
    });
    const float now =
        hn::GetLane(hn::MaxOfLanes(F(), hn::Max(hn::Max(highest[0], highest[1]), hn::Max(highest[2], highest[3]))));
    if (now > maximum) {
      sum *= std::exp(static_cast<double>(maximum) - static_cast<double>(now));
      maximum = now;
    }
    const VF top = hn::Set(F(), maximum);
    Sums exponentials;
    for_vectors(length, [&](int64_t i, auto part, auto k) HWY_ATTR {
      exponentials.part[k] = exponentials.part[k] + keep(part, exponential_below_88(load(part, z + i) - top));
    });
    sum += static_cast<double>(exponentials.total());
    if (want_total) {
      Sums values;
      for_vectors(length,
                  [&](int64_t i, auto part, auto k) HWY_ATTR { values.part[k] = values.part[k] + load(part, z + i); });
      total += static_cast<double>(values.total());
    }
  }
  return {static_cast<double>(maximum) + std::log(sum), total};
}

// The value of one element, by the same vector code as the rest of its row.
template <class X>
float capped_element(const X* x, Softcap softcap) {
  VF z = load(Part{1}, x);
  if (softcap.cap > 0) z = softcap(z);
  return hn::GetLane(z);
}

void cross_entropy_forward(Device& device, const Tensor& logits, const Tensor& labels,
                           const SoftmaxCrossEntropyOptions& options, Tensor& targets, Tensor& logsumexp) {
  const int64_t stride = logits.dim(-1), used = used_columns(stride, options);
  const Softcap softcap(options.softcap);
  const double smoothing = options.label_smoothing;
  dispatch_fast(logits.dtype(), [&]<class X>() {
    device.threads().parallel_ranges(labels.elements(), row_grain(stride), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int32_t label = labels.data<int32_t>()[r];
        const int64_t hit = label - options.first;
        double target = 0, lse = 0;
        if (label >= 0) {
          const X* row = logits.data<X>() + r * stride;
          const RowSums sums = row_sums(row, used, softcap, smoothing > 0);
          lse = sums.logsumexp;
          target = smoothing * sums.total / static_cast<double>(options.vocabulary);
          if (0 <= hit && hit < used)
            target += (1 - smoothing) * static_cast<double>(capped_element(row + hit, softcap));
        }
        targets.data<float>()[r] = static_cast<float>(target);
        logsumexp.data<float>()[r] = static_cast<float>(lse);
      }
    });
  });
}

// The gradient of one row over `count` logits, `label` perhaps not among them; see the reference for the formula.
template <class X>
void cross_entropy_backward_row(X* x, int64_t count, int64_t label, const SoftmaxCrossEntropyOptions& options,
                                float logsumexp, float scale) {
  const bool has_label = 0 <= label && label < count;
  const Softcap softcap(options.softcap);
  const F f;
  const VF lse = hn::Set(f, logsumexp);
  const VF share = hn::Set(f, scale * (1.0f + 2.0f * static_cast<float>(options.z_loss) * logsumexp));
  const VF even =
      hn::Set(f, scale * static_cast<float>(options.label_smoothing / static_cast<double>(options.vocabulary)));
  const VF hit = hn::Set(f, scale * static_cast<float>(1 - options.label_smoothing));
  HWY_ALIGN X right[hn::MaxLanes(F())];  // the label's element, kept before the loop overwrites it
  const VF at_label = has_label ? load(Part{1}, x + label) : hn::Zero(f);
  if (softcap.cap > 0) {
    const VF inverse = hn::Set(f, 1.0f / softcap.cap);
    const auto slope = [&](VF z) HWY_ATTR { return hn::NegMulAdd(z * inverse, z * inverse, hn::Set(f, 1.0f)); };
    for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
      const VF z = softcap(load(part, x + i));
      store(part, hn::MulSub(share, exponential_below_88(z - lse), even) * slope(z), x + i);
    });
    const VF z = softcap(at_label);
    store(Whole{}, (hn::MulSub(share, exponential_below_88(z - lse), even) - hit) * slope(z), right);
  } else {
    for_vectors(count, [&](int64_t i, auto part, auto) HWY_ATTR {
      store(part, hn::MulSub(share, exponential_below_88(load(part, x + i) - lse), even), x + i);
    });
    store(Whole{}, hn::MulSub(share, exponential_below_88(at_label - lse), even) - hit, right);
  }
  if (has_label) x[label] = right[0];
}

void cross_entropy_backward(Device& device, Tensor& logits, const Tensor& labels,
                            const SoftmaxCrossEntropyOptions& options, const Tensor& logsumexp, const Tensor& dlosses) {
  const int64_t stride = logits.dim(-1), columns = used_columns(stride, options);
  dispatch_fast(logits.dtype(), [&]<class X>() {
    device.threads().parallel_ranges(labels.elements(), row_grain(stride), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        X* row = logits.data<X>() + r * stride;
        const int32_t label = labels.data<int32_t>()[r];
        const float scale = label < 0 ? 0 : dlosses.data<float>()[r];
        const int64_t used = scale == 0 ? 0 : columns;
        if (used > 0) {
          cross_entropy_backward_row(row, used, label - options.first, options, logsumexp.data<float>()[r], scale);
        }
        std::memset(static_cast<void*>(row + used), 0, static_cast<size_t>(stride - used) * sizeof(X));
      }
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace troupe::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace troupe::kernels::cpu {
namespace {

HWY_EXPORT(cross_entropy_forward);
HWY_EXPORT(cross_entropy_backward);

double capped(double logit, double cap) { return cap > 0 ? cap * std::tanh(logit / cap) : logit; }

int64_t used_columns(int64_t stride, const SoftmaxCrossEntropyOptions& options) {
  return std::clamp<int64_t>(options.vocabulary - options.first, 0, stride);
}

void forward(Device& device, const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options,
             Tensor& targets, Tensor& logsumexp) {
  const int32_t* label = labels.data<int32_t>();
  for (int64_t r = 0; r < labels.elements(); ++r) {
    TROUPE_CHECK(label[r] < options.vocabulary, "softmax_cross_entropy: label {} in row {}, the vocabulary has {}",
                 label[r], r, options.vocabulary);
  }
  if (logits.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(cross_entropy_forward)(device, logits, labels, options, targets, logsumexp);
  }
  const int64_t stride = logits.dim(-1), used = used_columns(stride, options);
  const double cap = options.softcap, smoothing = options.label_smoothing;
  device.threads().parallel_for(labels.elements(), [&](int64_t r) {
    const double* row = logits.data<double>() + r * stride;
    const int64_t hit = label[r] - options.first;
    double target = 0, lse = 0;
    if (label[r] >= 0) {
      double maximum = -std::numeric_limits<double>::infinity(), sum = 0, total = 0;
      for (int64_t i = 0; i < used; ++i) maximum = std::max(maximum, capped(row[i], cap));
      for (int64_t i = 0; i < used; ++i) {
        const double z = capped(row[i], cap);
        sum += std::exp(z - maximum);
        total += z;
      }
      lse = used > 0 ? maximum + std::log(sum) : maximum;
      target = smoothing * total / static_cast<double>(options.vocabulary);
      if (0 <= hit && hit < used) target += (1 - smoothing) * capped(row[hit], cap);
    }
    targets.data<double>()[r] = target;
    logsumexp.data<double>()[r] = lse;
  });
}

template <class T>
void join_rows(const Tensor& labels, const SoftmaxCrossEntropyOptions& options, const Tensor& targets,
               const Tensor& parts, Tensor& losses, Tensor& logsumexp) {
  const int64_t count = parts.dim(0), rows = parts.dim(1);
  for (int64_t r = 0; r < rows; ++r) {
    double maximum = -std::numeric_limits<double>::infinity(), sum = 0, target = 0;
    for (int64_t p = 0; p < count; ++p) {
      maximum = std::max(maximum, static_cast<double>(parts.data<T>()[p * rows + r]));
      target += static_cast<double>(targets.data<T>()[p * rows + r]);
    }
    for (int64_t p = 0; p < count; ++p) sum += std::exp(static_cast<double>(parts.data<T>()[p * rows + r]) - maximum);
    const bool counts = labels.data<int32_t>()[r] >= 0;
    const double lse = counts ? (count == 1 ? maximum : maximum + std::log(sum)) : 0;
    // A logit that is not a number makes the loss none, whatever the maximum took it for.
    const double loss = counts ? lse - target + options.z_loss * lse * lse + 0 * sum : 0;
    losses.data<T>()[r] = static_cast<T>(loss);
    logsumexp.data<T>()[r] = static_cast<T>(lse);
  }
}

void join(Device&, const Tensor& labels, const SoftmaxCrossEntropyOptions& options, const Tensor& targets,
          const Tensor& parts, Tensor& losses, Tensor& logsumexp) {
  if (parts.dtype() == DType::f64) return join_rows<double>(labels, options, targets, parts, losses, logsumexp);
  join_rows<float>(labels, options, targets, parts, losses, logsumexp);
}

// d loss / d z_i = (1 + 2 z_loss · lse) · p_i - ε/V - (1 - ε) · [i = label];  dz / d logit = 1 - (z / cap)².
void backward(Device& device, Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options,
              const Tensor& logsumexp, const Tensor& dlosses) {
  if (logits.dtype() != DType::f64) {
    return HWY_DYNAMIC_DISPATCH(cross_entropy_backward)(device, logits, labels, options, logsumexp, dlosses);
  }
  const int64_t stride = logits.dim(-1), used = used_columns(stride, options);
  const double cap = options.softcap;
  device.threads().parallel_for(labels.elements(), [&](int64_t r) {
    const int32_t label = labels.data<int32_t>()[r];
    double* row = logits.data<double>() + r * stride;
    const double scale = label < 0 ? 0 : dlosses.data<double>()[r];
    const double lse = logsumexp.data<double>()[r];
    const double share = 1 + 2 * options.z_loss * lse;
    for (int64_t i = 0; i < stride; ++i) {
      if (scale == 0 || i >= used) {
        row[i] = 0;
        continue;
      }
      const double z = capped(row[i], cap);
      double d = share * std::exp(z - lse) - options.label_smoothing / static_cast<double>(options.vocabulary) -
                 (i == label - options.first ? 1 - options.label_smoothing : 0);
      if (cap > 0) d *= 1 - (z / cap) * (z / cap);
      row[i] = d * scale;
    }
  });
}

}  // namespace

SoftmaxCrossEntropyKernels softmax_cross_entropy_kernels() {
  return {.forward = forward, .join = join, .backward = backward};
}

}  // namespace troupe::kernels::cpu
#endif
