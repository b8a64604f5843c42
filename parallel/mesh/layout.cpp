#include "parallel/mesh/layout.h"

#include <algorithm>

#include "runtime/base/nearest.h"

namespace troupe::parallel {
namespace {

// Whether key and value heads fall on tensor ranks: whole heads on each, or each head on as many ranks.
bool kv_heads_fall_on(int64_t kv_heads, int64_t tensor) { return kv_heads % tensor == 0 || tensor % kv_heads == 0; }

// Hidden units of feed-forwards that every token goes through; 0 where there are none.
int64_t shared_hidden(const DecoderConfig& c) { return c.experts.count > 0 ? c.experts.shared * c.experts.hidden : 0; }
bool has_dense_blocks(const DecoderConfig& c) { return c.layers > c.expert_layers(); }

bool tensor_fits(const DecoderConfig& c, int64_t tensor) {
  return c.heads % tensor == 0 && kv_heads_fall_on(c.kv_heads, tensor) &&
         (!has_dense_blocks(c) || c.hidden % tensor == 0) && shared_hidden(c) % tensor == 0;
}

Status check_tensor(const DecoderConfig& c, int64_t tensor) {
  if (tensor_fits(c, tensor)) return {};
  const std::string nearest = nearest_where(tensor, 1, c.heads, [&](int64_t t) { return tensor_fits(c, t); });
  const auto refuse = [&](std::string_view rule, std::string_view key, int64_t value) {
    return usage_error("parallel.tensor = {} {} model.{} = {}; nearest valid: {}", tensor, rule, key, value, nearest);
  };
  if (c.heads % tensor != 0) return refuse("does not divide", "heads", c.heads);
  if (!kv_heads_fall_on(c.kv_heads, tensor))
    return refuse("neither divides nor is a multiple of", "kv_heads", c.kv_heads);
  if (has_dense_blocks(c) && c.hidden % tensor != 0) return refuse("does not divide", "hidden", c.hidden);
  return refuse("does not divide what shared experts have of", "expert_hidden", c.experts.hidden);
}

Status check_experts(const DecoderConfig& c, const MeshSizes& mesh) {
  const ExpertConfig& experts = c.experts;
  for (auto [key, size] : {std::pair{"expert", mesh.expert}, {"expert_tensor", mesh.expert_tensor}}) {
    if (experts.count == 0 && size != 1)
      return usage_error("parallel.{} = {}: the model has no experts (model.experts); 1 is valid", key, size);
  }
  if (experts.count > 0 && experts.count % mesh.expert != 0) {
    return usage_error("parallel.expert = {} does not divide model.experts = {}; nearest valid: {}", mesh.expert,
                       experts.count, nearest_divisors(experts.count, mesh.expert));
  }
  if (experts.count > 0 && experts.hidden % mesh.expert_tensor != 0) {
    return usage_error("parallel.expert_tensor = {} does not divide model.expert_hidden = {}; nearest valid: {}",
                       mesh.expert_tensor, experts.hidden, nearest_divisors(experts.hidden, mesh.expert_tensor));
  }
  const int64_t stage = mesh.stage_ranks();
  if (stage % (mesh.expert * mesh.expert_tensor) == 0) return {};
  const auto fits = [&](int64_t e) {
    return (experts.count == 0 || experts.count % e == 0) && stage % (e * mesh.expert_tensor) == 0;
  };
  return usage_error(
      "parallel.expert = {} × parallel.expert_tensor = {} do not divide the {} ranks of a stage "
      "(data × context × tensor); nearest valid expert: {}",
      mesh.expert, mesh.expert_tensor, stage, nearest_where(mesh.expert, 1, stage, fits));
}

}  // namespace

std::string Layout::to_string() const {
  std::string text = mesh.to_string();
  if (zero > 0) text += fmt::format("; ZeRO {}", zero);
  if (mesh.pipeline > 1) text += fmt::format("; {}", name_of(schedule));
  if (virtual_stages > 1) text += fmt::format(", {} virtual stages", virtual_stages);
  return text;
}

int kv_sharing(const DecoderConfig& c, int tensor) {
  return std::max(1, tensor / static_cast<int>(std::min<int64_t>(c.kv_heads, tensor)));
}

Status check_layout(const DecoderConfig& c, const Layout& layout) {
  TROUPE_TRY(check_tensor(c, layout.mesh.tensor));
  TROUPE_TRY(check_forward(layout.pipeline(1), static_cast<int>(c.layers)));
  return check_experts(c, layout.mesh);
}

Status check_layout(const DecoderConfig& c, const Layout& layout, const StepShape& shape) {
  TROUPE_TRY(check_layout(c, layout));
  const MeshSizes& mesh = layout.mesh;
  if (mesh.context > 1 && shape.sequence_length < 2 * mesh.context) {
    return usage_error(
        "parallel.context = {}: sequences of train.sequence_length = {} have no two tokens for each rank; "
        "nearest valid: {}",
        mesh.context, shape.sequence_length, std::max<int64_t>(1, shape.sequence_length / 2));
  }
  if (shape.global_batch % mesh.data != 0) {
    return usage_error("parallel.data = {} does not divide train.global_batch = {}; nearest valid: {}", mesh.data,
                       shape.global_batch, nearest_divisors(shape.global_batch, mesh.data));
  }
  const int64_t share = shape.global_batch / mesh.data;
  if (share % shape.sequences(mesh) != 0) {
    return usage_error(
        "train.micro_batch = {} does not divide a rank's {} sequences (train.global_batch = {}, "
        "parallel.data = {}); nearest valid: {}",
        shape.micro_batch, share, shape.global_batch, mesh.data, nearest_divisors(share, shape.micro_batch));
  }
  return check(layout.pipeline(shape.microbatches(mesh)), static_cast<int>(c.layers));
}

}  // namespace troupe::parallel
