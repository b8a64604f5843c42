#include "parallel/model/routing.h"

#include <algorithm>
#include <cmath>

#include "parallel/model/batch.h"

namespace troupe::parallel {

using kernels::DType;
using kernels::Tensor;

namespace {

// Calls body(token, sequence, index in it) for this rank's tokens without padding.
template <class Body>
void for_tokens(const Batch& batch, const Body& body) {
  TROUPE_CHECK(batch.shard_indices.defined() && batch.sequence_ids.defined(), "routing of tokens that have no index");
  const std::vector<int32_t> indices = batch.shard_indices.to_host<int32_t>();
  const std::vector<int64_t> ids = batch.sequence_ids.to_host<int64_t>();
  const size_t n = indices.size() / std::max<size_t>(ids.size(), 1);
  for (size_t t = 0; t < indices.size(); ++t) {
    if (indices[t] >= 0) body(t, ids[t / n], indices[t]);
  }
}

}  // namespace

void Routing::record(int layer, const Batch& batch, const Tensor& experts, double margin) {
  margin_ = std::min(margin_, margin);
  const std::vector<int32_t> chosen = experts.to_host<int32_t>();
  const auto k = static_cast<std::ptrdiff_t>(experts.dim(-1));
  for_tokens(batch, [&](size_t t, int64_t sequence, int32_t index) {
    const auto at = chosen.begin() + static_cast<std::ptrdiff_t>(t) * k;
    experts_[{layer, sequence}][index].assign(at, at + k);
  });
}

Tensor Routing::replay(int layer, const Batch& batch, int64_t per_token, kernels::Device& device) const {
  const kernels::Shape tokens = batch.shard_indices.shape();
  std::vector<int32_t> chosen(static_cast<size_t>(tokens.elements() * per_token), -1);
  for_tokens(batch, [&](size_t t, int64_t sequence, int32_t index) {
    const auto found = experts_.find({layer, sequence});
    const bool known = found != experts_.end() && found->second.contains(index);
    TROUPE_CHECK(known, "token {} of sequence {} has no recorded experts in layer {}", index, sequence, layer);
    const std::vector<int32_t>& experts = found->second.at(index);
    TROUPE_CHECK(static_cast<int64_t>(experts.size()) == per_token, "{} recorded experts of a token, not {}",
                 experts.size(), per_token);
    std::ranges::copy(experts,
                      chosen.begin() + static_cast<std::ptrdiff_t>(t) * static_cast<std::ptrdiff_t>(per_token));
  });
  return Tensor::from<int32_t>(device, chosen, {tokens[0], tokens[1], per_token});
}

void Routing::add(const Routing& other) {
  for (const auto& [key, sequence] : other.experts_) {
    for (const auto& [index, experts] : sequence) experts_[key][index] = experts;
  }
  margin_ = std::min(margin_, other.margin_);
}

void RouterFindings::add(const RouterFindings& other) {
  for (const auto& [number, theirs] : other.layers) {
    Layer& layer = layers[number];
    layer.loads.resize(theirs.loads.size());
    for (size_t e = 0; e < theirs.loads.size(); ++e) layer.loads[e] += theirs.loads[e];
    layer.balance_loss += theirs.balance_loss;
    layer.z_loss += theirs.z_loss;
  }
}

double load_entropy(const std::vector<int64_t>& loads) {
  double total = 0, sum = 0;
  for (int64_t load : loads) total += static_cast<double>(load);
  for (int64_t load : loads) {
    const double share = static_cast<double>(load) / total;
    if (load > 0) sum -= share * std::log(share);
  }
  return total > 0 && loads.size() > 1 ? sum / std::log(static_cast<double>(loads.size())) : 0;
}

}  // namespace troupe::parallel
