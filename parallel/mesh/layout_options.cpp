#include "parallel/mesh/layout_options.h"

#include <array>
#include <numeric>

#include "runtime/base/nearest.h"

namespace troupe::parallel {
namespace {

constexpr int64_t kMostRanks = 10'000'000;

struct AxisOption {
  const char* name;
  std::optional<int> asked;
  int* size;
};

// As many ranks as divide `parts` and the ranks of a stage that are left.
int common(int64_t parts, int64_t left) { return static_cast<int>(std::gcd(parts, left)); }

Status resolve_experts(const LayoutOptions& o, const ExpertConfig& experts, MeshSizes& mesh) {
  if (!o.expert && !o.expert_tensor)
    return usage_error("parallel.expert and parallel.expert_tensor are both \"auto\"; one of them may be");
  mesh.expert = o.expert.value_or(1);
  mesh.expert_tensor = o.expert_tensor.value_or(1);
  if (int64_t{mesh.expert} * mesh.expert_tensor > kMostRanks) {
    return usage_error("parallel.expert = {} × parallel.expert_tensor = {} are more than {} ranks", mesh.expert,
                       mesh.expert_tensor, kMostRanks);
  }
  const int64_t left = mesh.stage_ranks() / (mesh.expert * mesh.expert_tensor);
  if (!o.expert && experts.count > 0) mesh.expert = common(experts.count, left);
  if (!o.expert_tensor && experts.count > 0) mesh.expert_tensor = common(experts.hidden, left);
  return {};
}

}  // namespace

LayoutOptions read_layout_options(Config& config) {
  LayoutOptions o;
  ConfigSection section = config.section("parallel");
  section.read_or_auto("pipeline", o.pipeline, at_least(1))
      .read_or_auto("data", o.data, at_least(1))
      .read_or_auto("context", o.context, at_least(1))
      .read_or_auto("tensor", o.tensor, at_least(1))
      .read_or_auto("expert", o.expert, at_least(1))
      .read_or_auto("expert_tensor", o.expert_tensor, at_least(1))
      .read("zero", o.zero, between(0, 3))
      .read("virtual_stages", o.virtual_stages, between(1, 10'000))
      .read("collective_deadline_seconds", o.collective_deadline_seconds, between(1, 1'000'000));
  Schedule chosen = o.virtual_stages > 1 ? Schedule::interleaved : Schedule::one_f_one_b;
  section.read_choice(
      "schedule", chosen,
      {{"gpipe", Schedule::gpipe}, {"1f1b", Schedule::one_f_one_b}, {"interleaved", Schedule::interleaved}});
  if (section.has("schedule")) o.schedule = chosen;
  // What another axis takes is not left for data.
  if (!section.has("data") && !(o.pipeline && o.context && o.tensor)) o.data = 1;
  return o;
}

Result<Layout> resolve_layout(const LayoutOptions& o, std::optional<int> ranks, const DecoderConfig& config) {
  Layout layout;
  layout.zero = o.zero;
  layout.virtual_stages = o.virtual_stages;
  layout.schedule = o.schedule.value_or(o.virtual_stages > 1 ? Schedule::interleaved : Schedule::one_f_one_b);
  MeshSizes& mesh = layout.mesh;
  const std::array<AxisOption, 4> axes{{{"pipeline", o.pipeline, &mesh.pipeline},
                                        {"context", o.context, &mesh.context},
                                        {"tensor", o.tensor, &mesh.tensor},
                                        {"data", o.data, &mesh.data}}};
  const AxisOption* open = nullptr;  // the axis that takes what is left
  int64_t product = 1;
  for (const AxisOption& axis : axes) {
    *axis.size = axis.asked.value_or(1);
    product *= *axis.size;
    if (product > kMostRanks) {
      return usage_error("parallel.{} = {}: with it the axes make {} ranks, more than {}", axis.name, *axis.size,
                         product, kMostRanks);
    }
    if (axis.asked) continue;
    if (open)
      return usage_error("parallel.{} and parallel.{} are both \"auto\"; one axis may be", open->name, axis.name);
    open = &axis;
  }
  if (ranks && open && *ranks % mesh.ranks() != 0) {
    return usage_error(
        "{} ranks asked for, but the axes of [parallel] beside parallel.{} make {} ({}), which does not "
        "divide that; nearest valid: {}",
        *ranks, open->name, mesh.ranks(), mesh.to_string(),
        nearest_where(*ranks, mesh.ranks(), int64_t{*ranks} + mesh.ranks(),
                      [&](int64_t n) { return n % mesh.ranks() == 0; }));
  }
  if (ranks && open) *open->size = *ranks / mesh.ranks();
  if (ranks && mesh.ranks() != *ranks) {
    return usage_error(
        "{} ranks asked for, but the axes of [parallel] make {} (parallel.data = {}{}); leave one out, or "
        "make it \"auto\"",
        *ranks, mesh.ranks(), mesh.data, mesh.ranks() == mesh.data ? "" : fmt::format(" in {}", mesh.to_string()));
  }
  TROUPE_TRY(resolve_experts(o, config.experts, mesh));
  return layout;
}

Result<Layout> resolve_layout(const LayoutOptions& o, std::optional<int> ranks, const DecoderConfig& config,
                              const StepShape& shape) {
  Layout layout = TROUPE_TRY(resolve_layout(o, ranks, config));
  TROUPE_TRY(check_layout(config, layout, shape));
  layout.mesh.kv_sharing = kv_sharing(config, layout.mesh.tensor);
  return layout;
}

}  // namespace troupe::parallel
