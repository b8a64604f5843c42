#include "parallel/model/mixture.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/ops/add.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/grouped_linear.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/permutation.h"
#include "kernels/ops/swiglu.h"
#include "parallel/model/expert_exchange.h"

namespace troupe::parallel {

using kernels::RouterChoice;
using kernels::RouterLossGradients;

namespace {

// x in the dtype that sums have; its gradient is rounded to x's.
Value widened(Tape& tape, const Value& x) {
  const DType wide = kernels::accumulator_of(x.dtype());
  if (x.dtype() == wide) return x;
  return tape.record("widen", x.tensor().to(wide), {x}, [](kernels::Backward& back) {
    if (back.wants(0)) back.give(0, back.output_gradient());
  });
}

Parameter* add_bias(ParameterSet& parameters, const std::string& name, const ExpertConfig& e) {
  if (e.bias_rate == 0) return nullptr;
  ParameterSpec spec{name + ".bias", {e.count}, Placement::replicated(), Initializer::constant(0), false};
  spec.state = true;
  return &parameters.add(std::move(spec));
}

// How far the last that was chosen and the first that was not lay apart, where they were closest.
double margin_of(const RouterChoice& choice, const Tensor& bias) {
  const std::vector<double> scores = choice.scores.to_host<double>();
  const std::vector<double> add = bias.defined() ? bias.to_host<double>() : std::vector<double>();
  const std::vector<int32_t> experts = choice.experts.to_host<int32_t>();
  const auto E = static_cast<size_t>(choice.scores.dim(-1)), k = static_cast<size_t>(choice.experts.dim(-1));
  double margin = std::numeric_limits<double>::infinity();
  for (size_t t = 0; t * k < experts.size(); ++t) {
    if (k == E || experts[t * k] < 0) continue;
    std::vector<double> of(E);
    for (size_t e = 0; e < E; ++e) of[e] = scores[t * E + e] + (add.empty() ? 0 : add[e]);
    std::ranges::sort(of, std::greater());
    margin = std::min(margin, of[k - 1] - of[k]);
  }
  return margin;
}

}  // namespace

Router::Router(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int layer)
    : config_(c.experts),
      options_{.score = config_.score,
               .per_token = config_.per_token,
               .normalize = config_.normalize,
               .scale = config_.scale},
      layer_(layer),
      sequence_(&parameters.groups()[Group::sequence]),
      weight_(&parameters.add({name + ".weight",
                               {config_.count, c.width},
                               Placement::replicated(),
                               Initializer::normal(c.initial_deviation),
                               false})),
      bias_(add_bias(parameters, name, config_)) {}

Router::Result Router::operator()(Tape& tape, const Value& x, const Batch& batch) const {
  const Value z = linear(tape, widened(tape, x), tape.parameter(*weight_));
  Tensor given;
  if (batch.router) given = batch.router->layers[layer_].experts;
  const bool again = given.defined();
  if (!again && batch.replayed) given = batch.replayed->replay(layer_, batch, options_.per_token, tape.device());
  const RouterChoice choice = choose_experts(tape.device(), z.tensor(), options_, bias_ ? bias_->value() : Tensor(),
                                             batch.shard_indices, given);
  if (batch.router) batch.router->layers[layer_].experts = choice.experts;
  if (batch.recorded && !again)
    batch.recorded->record(layer_, batch, choice.experts, margin_of(choice, bias_ ? bias_->value() : Tensor()));
  const RouterLossGradients losses = batch.training ? find_losses(z.tensor(), choice, batch) : RouterLossGradients();
  return {router_weights(tape, z, choice, options_, losses), choice.experts};
}

RouterLossGradients Router::find_losses(const Tensor& z, const RouterChoice& choice, const Batch& batch) const {
  const int64_t B = z.dim(0), E = config_.count, width = 2 * E + 2;
  kernels::Device& device = z.device();
  const Tensor statistics = router_statistics(device, z, choice);
  std::vector<double> found = statistics.to_host<double>();
  const auto at = [&](int64_t b, int64_t i) { return found[static_cast<size_t>(b * width + i)]; };
  RouterFindings::Layer layer{.experts = choice.experts, .loads = std::vector<int64_t>(static_cast<size_t>(E), 0)};
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t e = 0; e < E; ++e) layer.loads[static_cast<size_t>(e)] += static_cast<int64_t>(at(b, e));
  }
  RouterLossGradients gradients;
  if (config_.z_loss > 0) {
    TROUPE_CHECK(batch.tokens_in_step > 0, "a z-loss of no tokens");
    gradients.z_loss = static_cast<double>(config_.z_loss) / static_cast<double>(batch.tokens_in_step);
    for (int64_t b = 0; b < B; ++b) layer.z_loss += gradients.z_loss * at(b, 2 * E + 1);
  }
  if (config_.balance_loss > 0) {
    TROUPE_CHECK(batch.sequences_in_step > 0, "a balance loss of no sequences");
    if (sequence_->size() > 1) {
      sequence_->all_reduce(statistics).wait();
      found = statistics.to_host<double>();
    }
    const double alpha = static_cast<double>(config_.balance_loss) / static_cast<double>(batch.sequences_in_step);
    std::vector<double> of_scores(static_cast<size_t>(B * E), 0.0);
    double sum = 0;
    for (int64_t b = 0; b < B; ++b) {
      const double T = at(b, 2 * E);
      for (int64_t e = 0; e < E && T > 0; ++e) {
        const double f = static_cast<double>(E) / (static_cast<double>(config_.per_token) * T) * at(b, e);
        of_scores[static_cast<size_t>(b * E + e)] = alpha * f / T;
        sum += alpha * f * at(b, E + e) / T;
      }
    }
    // All ranks that share the sequences have found it.
    if (sequence_->rank() == 0) layer.balance_loss = sum;
    gradients.balance = Tensor::from<double>(device, of_scores, {B, E});
  }
  if (batch.router) batch.router->layers[layer_] = std::move(layer);
  return gradients;
}

void Router::balance(const std::vector<int64_t>& loads) {
  if (bias_ == nullptr) return;
  const auto E = static_cast<int64_t>(loads.size());
  TROUPE_CHECK(E == config_.count, "{} loads of {} experts", E, config_.count);
  int64_t total = 0;
  for (int64_t load : loads) total += load;
  Tensor bias = bias_->value();
  std::vector<double> values = bias.to_host<double>();
  for (size_t e = 0; e < values.size(); ++e) {
    const int64_t lack = total - E * loads[e];  // of tokens, times E
    values[e] += static_cast<double>(config_.bias_rate) * static_cast<double>((lack > 0) - (lack < 0));
  }
  bias.copy_from(
      Tensor::from<double>(bias.device(), values, bias.shape(), kernels::MemoryKind::buffers).to(bias.dtype()));
}

Experts::Experts(ParameterSet& parameters, const std::string& name, const DecoderConfig& c) : mlp_(c.mlp) {
  const ExpertConfig& e = c.experts;
  const auto add = [&](const char* which, const Shape& shape, int hidden, float deviation) {
    const Placement placement = Placement::split(Axis::expert, 0).and_split(Axis::expert_tensor, hidden);
    return &parameters.add({name + which, shape, placement, Initializer::normal(deviation)});
  };
  if (c.mlp != MlpKind::gelu) gate_ = add(".gate.weight", {e.count, e.hidden, c.width}, 1, c.initial_deviation);
  up_ = add(".up.weight", {e.count, e.hidden, c.width}, 1, c.initial_deviation);
  down_ = add(".down.weight", {e.count, c.width, e.hidden}, 2, residual_deviation(c));
}

Value Experts::operator()(Tape& tape, const Value& rows, const std::vector<int64_t>& offsets, DType output) const {
  Value hidden;
  if (gate_ == nullptr) {
    hidden = gelu_tanh(tape, grouped_linear(tape, rows, offsets, tape.parameter(*up_)));
  } else {
    const Value gate = grouped_linear(tape, rows, offsets, tape.parameter(*gate_));
    const Value up = grouped_linear(tape, rows, offsets, tape.parameter(*up_));
    hidden = mlp_ == MlpKind::swiglu ? swiglu(tape, gate, up) : geglu(tape, gate, up);
  }
  return grouped_linear(tape, hidden, offsets, tape.parameter(*down_), output);
}

MixtureOfExperts::MixtureOfExperts(ParameterSet& parameters, const std::string& name, const DecoderConfig& c, int layer)
    : groups_(&parameters.groups()),
      count_(c.experts.count),
      router_(parameters, name + ".router", c, layer),
      experts_(parameters, name + ".experts", c) {
  if (c.experts.shared > 0) {
    shared_ = std::make_unique<FeedForward>(parameters, name + ".shared_experts", c,
                                            c.experts.shared * c.experts.hidden, false);
  }
}

Value MixtureOfExperts::operator()(Tape& tape, const Value& x, const Batch& batch) const {
  const int64_t B = x.dim(0), n = x.dim(1), D = x.dim(2);
  const Router::Result route = router_(tape, x, batch);
  const kernels::ExpertOrder order = order_by_expert(tape.device(), route.experts, count_);
  const ExpertExchange exchange(*groups_, tape.device(), order.counts);
  const Value rows = exchange.dispatch(tape, to_expert_order(tape, x.reshape({B * n, D}), order));
  const DType partial = exchange.divided() ? kernels::accumulator_of(x.dtype()) : x.dtype();
  const Value results = exchange.collect(tape, experts_(tape, rows, exchange.offsets(), partial), x.dtype());
  const Value y = combine_experts(tape, results, route.weights, order).reshape({B, n, D});
  return shared_ ? y + (*shared_)(tape, x) : y;
}

}  // namespace troupe::parallel
