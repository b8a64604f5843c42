#include "parallel/plan/step_time.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace troupe::parallel {
namespace {

enum Part { kProductsTime, kAttentionTime, kMemoryTime, kLaunchTime, kTensorTime, kContextTime, kExpertTime, kParts };

struct Seconds : std::array<double, kParts> {
  Seconds() : array{} {}
  Seconds& add(const Seconds& more, double times = 1) {
    for (size_t i = 0; i < kParts; ++i) (*this)[i] += times * more[i];
    return *this;
  }
  double total() const {
    double sum = 0;
    for (double part : *this) sum += part;
    return sum;
  }
};

struct Passes {
  Seconds forward, backward;
  Passes& add(const Passes& more, double times = 1) {
    forward.add(more.forward, times);
    backward.add(more.backward, times);
    return *this;
  }
  double total() const { return forward.total() + backward.total(); }
};

// Average number of keys that a query sees.
double visible_keys(const DecoderConfig& m, double length) {
  const auto window = static_cast<double>(m.window);
  if (window <= 0 || window >= length) return (length + 1) / 2;
  return (window * (window + 1) / 2 + (length - window) * window) / length;
}

// The parts of a model on one rank, for one microbatch.
class Parts {
 public:
  Parts(const DecoderConfig& m, Numerics numerics, const DeviceSpec& device, const Layout& layout,
        const StepShape& shape)
      : m_(m), device_(device), mesh_(layout.mesh), compute_(numerics.compute) {
    c_ = static_cast<double>(kernels::size_of(numerics.compute));
    r_ = static_cast<double>(kernels::size_of(numerics.residual));
    t_ = mesh_.tensor;
    tokens_ = static_cast<double>(shape.tokens(mesh_));
    length_ = static_cast<double>(shape.sequence_length);
    width_ = static_cast<double>(m.width);
    in_ = m.mlp == MlpKind::gelu ? 1 : 2;
  }

  Passes attention() const {
    Passes p;
    const auto d = static_cast<double>(m_.head_width);
    const double q = static_cast<double>(m_.heads) * d / t_;
    const double k = static_cast<double>(m_.kv_heads) * d / std::min(t_, static_cast<double>(m_.kv_heads));
    multiply(p, tokens_, q + 2 * k, width_);
    multiply(p, tokens_, width_, q);
    const double flops = 4 * q * visible_keys(m_, length_) * tokens_;
    // Short sequences and narrow heads fill the processors less: 0.75 of the rate at width 64 (Shah et al. 2024, fig.
    // 5).
    const double rate = device_.peak(compute_) * length_ / (length_ + 512) * std::sqrt(std::min(1.0, d / 128));
    p.forward[kAttentionTime] += flops / (rate * device_.attention_forward);
    p.backward[kAttentionTime] += 2.5 * flops / (rate * device_.attention_backward);  // five products for two
    norm_and_add(p);
    if (m_.position == PositionKind::rope) stream(p, tokens_ * 2 * c_ * (q + k), tokens_ * 2 * c_ * (q + k), 2);
    p.forward[kLaunchTime] += device_.kernel_seconds;
    p.backward[kLaunchTime] += 2 * device_.kernel_seconds;
    return p;
  }

  Passes feed_forward(double hidden) const {  // hidden units of this rank
    Passes p;
    multiply(p, tokens_, in_ * hidden, width_);
    multiply(p, tokens_, width_, hidden);
    activation(p, tokens_ * hidden);
    return p;
  }

  Passes dense_feed_forward() const {
    Passes p = feed_forward(static_cast<double>(m_.hidden) / t_);
    norm_and_add(p);
    return p;
  }

  Passes experts() const {
    const ExpertConfig& e = m_.experts;
    const auto count = static_cast<double>(e.count / mesh_.expert);
    const double rows = tokens_ / t_ * static_cast<double>(e.per_token) * mesh_.expert_tensor;
    const double hidden = static_cast<double>(e.hidden) / mesh_.expert_tensor;
    Passes p;
    multiply(p, rows / count, in_ * hidden, width_, count);
    multiply(p, rows / count, width_, hidden, count);
    activation(p, rows * hidden);
    norm_and_add(p);
    // Router, permutation of rows before and behind the exchange, and their weighted sum.
    const double scores = tokens_ / t_ * static_cast<double>(e.count) * 4;
    stream(p, 3 * scores + rows * width_ * c_ * 6, 6 * scores + rows * width_ * c_ * 8, 6);
    if (e.shared > 0) p.add(feed_forward(static_cast<double>(e.shared * e.hidden) / t_));
    return p;
  }

  Passes embedding() const {
    Passes p;
    stream(p, tokens_ * width_ * 2 * r_, tokens_ * width_ * 3 * r_, 2);
    return p;
  }

  Passes head() const {
    Passes p;
    const double vocabulary = std::ceil(static_cast<double>(m_.vocabulary) / t_);
    multiply(p, tokens_, vocabulary, width_);
    const double loss_bytes = tokens_ * vocabulary * device_.logit_bytes;
    stream(p, loss_bytes / 2, loss_bytes / 2, 4);
    norm_and_add(p);
    return p;
  }

 private:
  // Y [m, n] = X [m, k] · W: forward, gradient of X, gradient of W, which accumulates in f32.
  void multiply(Passes& p, double m, double n, double k, double groups = 1) const {
    p.forward[kProductsTime] += product_seconds(device_, compute_, {m, n, k, c_, groups});
    p.backward[kProductsTime] += product_seconds(device_, compute_, {m, k, n, c_, groups}) +
                                 product_seconds(device_, compute_, {n, k, m, 8, groups});
    p.forward[kLaunchTime] += device_.kernel_seconds;
    p.backward[kLaunchTime] += 2 * device_.kernel_seconds;
  }
  void stream(Passes& p, double forward_bytes, double backward_bytes, double kernels) const {
    p.forward[kMemoryTime] += forward_bytes / device_.memory_bandwidth;
    p.backward[kMemoryTime] += backward_bytes / device_.memory_bandwidth;
    p.forward[kLaunchTime] += kernels * device_.kernel_seconds;
    p.backward[kLaunchTime] += kernels * device_.kernel_seconds;
  }
  // A norm reads the residual stream and writes what products read; their result is added to it.
  void norm_and_add(Passes& p) const {
    const double elements = tokens_ / t_ * width_;
    stream(p, elements * (2 * c_ + 3 * r_), elements * (2 * c_ + 4 * r_), 2);
  }
  void activation(Passes& p, double elements) const {
    stream(p, elements * c_ * (in_ + 1), elements * c_ * (2 * in_ + 1), 1);
  }

  const DecoderConfig& m_;
  const DeviceSpec& device_;
  const MeshSizes& mesh_;
  kernels::DType compute_;
  double c_, r_, t_, tokens_, length_, width_, in_;
};

// Adds what a part's communication costs: what is not hidden of it; a ring is hidden by the attention that it
// accompanies.
void add_traffic(Passes& p, const Transfers& transfers, const DeviceSpec& device, const MeshSizes& mesh) {
  double ring_forward = 0, ring_backward = 0;
  for (const Transfer& transfer : transfers) {
    const double seconds = transfer_seconds(device, mesh, transfer);
    Seconds& pass = transfer.moment == Moment::forward ? p.forward : p.backward;
    switch (transfer.group) {
      case Group::tensor: pass[kTensorTime] += device.exposed * seconds; break;
      case Group::context: (transfer.moment == Moment::forward ? ring_forward : ring_backward) += seconds; break;
      default: pass[kExpertTime] += device.exposed * seconds; break;
    }
  }
  const auto beside = [&](Seconds& pass, double ring) {
    pass[kContextTime] +=
        std::max(0.0, ring - pass[kAttentionTime]) + device.overlap_cost * std::min(ring, pass[kAttentionTime]);
  };
  beside(p.forward, ring_forward);
  beside(p.backward, ring_backward);
}

// Communication of `seconds` beside computation of `window`, of which the last block's share of `blocks` comes too
// late.
double exposed(const DeviceSpec& device, double seconds, double window, double blocks) {
  const double hidden = std::min(seconds * (1 - 1 / blocks), window);
  return seconds - hidden + device.overlap_cost * hidden;
}

// A microbatch through each unit of the model.
struct UnitTimes {
  UnitTimes(const DecoderConfig& m, Numerics numerics, const DeviceSpec& device, const Layout& layout,
            const StepShape& shape, Recompute recompute, const MicrobatchTraffic& traffic) {
    const Parts parts(m, numerics, device, layout, shape);
    const Passes attention = parts.attention();
    // What is recomputed is one more forward within backward; its traffic is in `traffic` already.
    const auto block = [&](const Passes& rest, const Transfers& transfers) {
      Passes whole = attention;
      whole.add(rest);
      if (recompute == Recompute::attention) whole.backward.add(attention.forward);
      if (recompute == Recompute::block) whole.backward.add(Passes(whole).forward);
      add_traffic(whole, transfers, device, layout.mesh);
      return whole;
    };
    dense = block(parts.dense_feed_forward(), traffic.dense_block);
    if (m.experts.count > 0) sparse = block(parts.experts(), traffic.sparse_block);
    embedding = parts.embedding();
    head = parts.head();
    add_traffic(embedding, traffic.embedding, device, layout.mesh);
    add_traffic(head, traffic.head, device, layout.mesh);
  }

  Passes of(const StageLayers& layers) const {
    Passes passes;
    passes.add(dense, static_cast<double>(layers.dense)).add(sparse, static_cast<double>(layers.sparse));
    if (layers.first) passes.add(embedding);
    if (layers.last) passes.add(head);
    return passes;
  }

  Passes dense, sparse, embedding, head;
};

// There and back.
double hop_seconds(const MicrobatchTraffic& traffic, const DeviceSpec& device, const MeshSizes& mesh) {
  double seconds = 0;
  for (const Transfer& transfer : traffic.boundary) seconds += transfer_seconds(device, mesh, transfer);
  return seconds;
}

}  // namespace

PassTimes pass_times(const DecoderConfig& m, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                     const StepShape& shape, Recompute recompute) {
  const MicrobatchTraffic traffic = microbatch_traffic(m, numerics, layout, shape, recompute);
  const UnitTimes each(m, numerics, device, layout, shape, recompute, traffic);
  PassTimes times{.chunks = {}, .message = hop_seconds(traffic, device, layout.mesh) / 2};
  for (const StageLayers& layers : chunk_layers(m, layout, shape.sequence_length)) {
    const Passes passes = each.of(layers);
    times.chunks.push_back({passes.forward.total(), passes.backward.total()});
  }
  return times;
}

StepTime step_time(const DecoderConfig& m, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                   const StepShape& shape, Recompute recompute) {
  return step_time(m, numerics, device, layout, shape, recompute, stage_layers(m, layout, shape.sequence_length));
}

StepTime step_time(const DecoderConfig& m, Numerics numerics, const DeviceSpec& device, const Layout& layout,
                   const StepShape& shape, Recompute recompute, std::span<const StageLayers> stages) {
  const MeshSizes& mesh = layout.mesh;
  const int p = mesh.pipeline;
  const HeldModel held = held_model(m, mesh);
  const double v = layout.virtual_stages, microbatches = static_cast<double>(shape.microbatches(mesh));
  const MicrobatchTraffic traffic = microbatch_traffic(m, numerics, layout, shape, recompute);
  const UnitTimes each(m, numerics, device, layout, shape, recompute, traffic);

  Passes sum;
  double slowest = 0, data = 0, optimizer = 0;
  for (const StageLayers& layers : stages) {
    const Passes passes = each.of(layers);
    sum.add(passes);
    slowest = std::max(slowest, passes.total());
    if (!layers.first && !layers.last) continue;  // the ends hold most parameters

    // A virtual stage's gradients are ready when its last microbatch is through, its parameters needed by the first:
    // the p microbatches of each of the others lie between.
    const double others = v > 1 ? (p * (v - 1) + 1) / v : 1;
    const auto blocks = static_cast<double>(std::max<int64_t>(1, layers.total()));
    double waiting = 0, throughout = 0;
    for (const Transfer& transfer : state_traffic(held, layers, layout, numerics)) {
      const double operations = state_operations(layout, transfer.moment, shape.microbatches(mesh));
      const double seconds = operations * transfer_seconds(device, mesh, transfer);
      const Seconds& beside = transfer.moment == Moment::gradients ? passes.backward : passes.forward;
      if (operations == 1) waiting += exposed(device, seconds, beside.total() * others, blocks);
      else throughout += seconds;
    }
    // What each microbatch sends runs beside all of the step's passes.
    if (throughout > 0) waiting += exposed(device, throughout, microbatches * passes.total(), microbatches * blocks);
    data = std::max(data, waiting);
    // AdamW reads master, moments and gradient, writes the first three and the copy; the norm reads gradients once
    // more.
    double elements = 0;
    for (const HeldUnits& units : held_units(held, layers)) {
      for (const HeldParameters& h : *units.unit) {
        const int shards = layout.zero > 0 ? size_of(h.group, mesh) : 1;
        elements += static_cast<double>(units.count * h.elements) / shards;
      }
    }
    optimizer = std::max(optimizer, elements * (8 * 4.0 + static_cast<double>(kernels::size_of(numerics.compute))) /
                                        device.memory_bandwidth);
  }

  StepTime time;
  const auto average = [&](Part part) {
    return (sum.forward[part] + sum.backward[part]) * microbatches / static_cast<double>(p);
  };
  time.products = average(kProductsTime);
  time.attention = average(kAttentionTime);
  time.memory = average(kMemoryTime);
  time.launch = average(kLaunchTime);
  time.tensor = average(kTensorTime);
  time.context = average(kContextTime);
  time.expert = average(kExpertTime);
  time.imbalance = microbatches * (slowest - sum.total() / p);
  time.bubble = (sum.total() - slowest) / v;
  // A stage waits for its neighbours' messages, each way, once for each of its chunks, and once more to fill and drain.
  time.pipeline = hop_seconds(traffic, device, mesh) * (microbatches * v + (p - 1));
  time.data = data;
  time.optimizer =
      optimizer + device.step_seconds + (mesh.ranks() > 1 ? links_of(device, mesh.ranks(), 1).latency(device) : 0);
  const double ranks = mesh.ranks();
  time.stragglers = time.total() * device.spread * std::sqrt(2 * std::log(ranks));
  return time;
}

double model_flops(const DecoderConfig& m, const StepShape& shape) {
  return m.training_flops_per_token(shape.sequence_length) *
         static_cast<double>(shape.global_batch * shape.sequence_length);
}

double model_flops_full_attention(const DecoderConfig& m, const StepShape& shape) {
  const auto length = static_cast<double>(shape.sequence_length);
  const double missing = length - visible_keys(m, length);
  const double per_token = 3 * 4 * static_cast<double>(m.layers * m.heads * m.head_width) * missing;
  return model_flops(m, shape) + per_token * length * static_cast<double>(shape.global_batch);
}

double recomputed_flops(const DecoderConfig& m, const StepShape& shape, Recompute recompute) {
  const auto tokens = static_cast<double>(shape.global_batch * shape.sequence_length);
  const auto width = static_cast<double>(m.width);
  if (recompute == Recompute::none) return 0;
  if (recompute == Recompute::block)
    return tokens * (m.forward_flops_per_token(shape.sequence_length) - 2 * width * static_cast<double>(m.vocabulary));
  const auto q = static_cast<double>(m.heads * m.head_width), k = static_cast<double>(m.kv_heads * m.head_width);
  const double keys = visible_keys(m, static_cast<double>(shape.sequence_length));
  return tokens * static_cast<double>(m.layers) * (2 * width * (2 * q + 2 * k) + 4 * q * keys);
}

}  // namespace troupe::parallel
