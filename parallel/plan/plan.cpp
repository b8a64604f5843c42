#include "parallel/plan/plan.h"

#include <algorithm>
#include <map>

namespace troupe::parallel {
namespace {

constexpr int64_t kLargestMicroBatch = 32;
constexpr int kMostVirtualStages = 16, kMostTensorRanks = 8;
constexpr int64_t kShortestPiece = 1024;  // tokens of a sequence that a context rank is worth having for

// The fixed value, or all of [1, most] for which `valid` holds.
template <class T, class Valid>
std::vector<T> options(std::optional<T> fixed, T most, Valid&& valid) {
  if (fixed) return {*fixed};
  std::vector<T> found;
  for (T value = 1; value <= most; ++value) {
    if (valid(value)) found.push_back(value);
  }
  return found;
}

class Search {
 public:
  Search(const PlanTask& task, const PlanChoices& choices, size_t keep)
      : task_(task), choices_(choices), model_(task.model), keep_(keep) {}

  PlanSearch run() {
    const int ranks = choices_.ranks;
    const int node = std::min(task_.device.node_devices, kMostTensorRanks);
    for (int t : options(choices_.tensor, std::min(ranks, node), [&](int n) { return ranks % n == 0; })) {
      const int beside_tensor = ranks / t;
      const int layers = static_cast<int>(std::min<int64_t>(beside_tensor, model_.layers));
      for (int p : options(choices_.pipeline, layers, [&](int n) { return beside_tensor % n == 0; })) {
        const int stage = beside_tensor / p;
        const auto worth = [&](int n) {
          return n == 1 || ((n & (n - 1)) == 0 && stage % n == 0 && task_.sequence_length / n >= kShortestPiece);
        };
        for (int c : options(choices_.context, stage, worth)) {
          if (ranks % (t * p * c) != 0) continue;
          const int data = ranks / (t * p * c);
          if (choices_.data && *choices_.data != data) continue;
          if (task_.global_batch % data != 0) continue;
          try_mesh({.pipeline = p, .data = data, .context = c, .tensor = t});
        }
      }
    }
    std::ranges::sort(found_.best, {}, &Plan::step_seconds);
    if (found_.best.size() > keep_) found_.best.resize(keep_);
    return std::move(found_);
  }

 private:
  void try_mesh(MeshSizes mesh) {
    mesh.expert_tensor = choices_.expert_tensor;
    const auto most = static_cast<int>(std::max<int64_t>(1, model_.experts.count));
    for (int e : options(choices_.expert, most, [&](int n) {
           return n == 1 || (model_.experts.count % n == 0 && mesh.stage_ranks() % (n * mesh.expert_tensor) == 0);
         })) {
      mesh.expert = e;
      mesh.kv_sharing = kv_sharing(model_, mesh.tensor);
      Layout layout;
      layout.mesh = mesh;
      if (!check_layout(model_, layout).ok()) continue;
      best_of_mesh_.reset();
      try_batches(layout);
      if (best_of_mesh_) found_.best.push_back(*best_of_mesh_);
    }
  }

  void try_batches(Layout layout) {
    const int64_t share = task_.global_batch / layout.mesh.data;
    const auto stages = static_cast<int>(model_.layers / layout.mesh.pipeline);
    const bool one = layout.mesh.pipeline == 1 || (choices_.schedule && *choices_.schedule != Schedule::interleaved);
    for (int64_t batch : options<int64_t>(choices_.micro_batch, std::min(share, kLargestMicroBatch),
                                          [&](int64_t n) { return share % n == 0; })) {
      for (int v : options(choices_.virtual_stages, one ? 1 : std::min(stages, kMostVirtualStages),
                           [&](int n) { return n == 1 || share / batch % layout.mesh.pipeline == 0; })) {
        layout.virtual_stages = v;
        layout.schedule = choices_.schedule.value_or(v > 1 ? Schedule::interleaved : Schedule::one_f_one_b);
        if (check_layout(model_, layout, {task_.global_batch, task_.sequence_length, batch}).ok())
          try_memory(layout, batch);
      }
    }
  }

  // Recomputing takes longer than not, so it is tried only where nothing fits without, or nothing but ZeRO 2 and 3.
  void try_memory(Layout layout, int64_t batch) {
    const bool replicas = layout.mesh.data * layout.mesh.context > 1 || layout.mesh.expert_data() > 1;
    for (Recompute recompute : {Recompute::none, Recompute::attention, Recompute::block}) {
      if (choices_.recompute && recompute != *choices_.recompute) continue;
      bool enough = false;
      for (int zero = 0; zero <= 3; ++zero) {
        if (choices_.zero ? zero != *choices_.zero : zero > 0 && !replicas) continue;
        layout.zero = zero;
        const bool fits = consider(layout, batch, recompute);
        enough = enough || (fits && (zero < 2 || choices_.zero));
      }
      if (enough) return;
    }
  }

  bool consider(const Layout& layout, int64_t batch, Recompute recompute) {
    std::vector<StageLayers>& stages = stages_[{layout.mesh.pipeline, layout.virtual_stages}];
    if (stages.empty()) stages = stage_layers(model_, layout, task_.sequence_length);
    const Plan plan = make_plan(task_, layout, batch, recompute, stages);
    ++found_.valid;
    const auto better = [&](std::optional<Plan>& than, auto&& cost) {
      if (!than || cost(plan) < cost(*than)) than = plan;
    };
    better(found_.fastest, [](const Plan& p) { return p.step_seconds(); });
    better(found_.smallest, [](const Plan& p) { return p.memory.total(); });
    if (!plan.fits) return false;
    ++found_.fitting;
    better(best_of_mesh_, [](const Plan& p) { return p.step_seconds(); });
    return true;
  }

  const PlanTask& task_;
  const PlanChoices& choices_;
  const DecoderConfig& model_;
  size_t keep_;
  PlanSearch found_;
  std::optional<Plan> best_of_mesh_;
  std::map<std::pair<int, int>, std::vector<StageLayers>> stages_;  // of pipeline × virtual stages
};

}  // namespace

Plan make_plan(const PlanTask& task, const Layout& layout, int64_t micro_batch, Recompute recompute) {
  return make_plan(task, layout, micro_batch, recompute, stage_layers(task.model, layout, task.sequence_length));
}

Plan make_plan(const PlanTask& task, const Layout& layout, int64_t micro_batch, Recompute recompute,
               std::span<const StageLayers> stages) {
  Plan plan;
  plan.layout = layout;
  plan.layout.mesh.kv_sharing = kv_sharing(task.model, layout.mesh.tensor);
  plan.shape = {task.global_batch, task.sequence_length, micro_batch};
  plan.recompute = recompute;
  for (int stage = 0; stage < layout.mesh.pipeline; ++stage) {
    const TrainingMemory memory =
        training_memory(task.model, task.numerics, plan.layout, plan.shape, recompute, stages, stage);
    if (memory.total() <= plan.memory.total()) continue;
    plan.memory = memory;
    plan.fullest_stage = stage;
  }
  plan.fits = static_cast<double>(plan.memory.total()) <= task.device.memory_bytes;
  plan.time = step_time(task.model, task.numerics, task.device, plan.layout, plan.shape, recompute, stages);
  const double at_peak = plan.step_seconds() * task.device.peak(task.numerics.compute) * layout.mesh.ranks();
  plan.mfu = model_flops(task.model, plan.shape) / at_peak;
  plan.mfu_full_attention = model_flops_full_attention(task.model, plan.shape) / at_peak;
  return plan;
}

PlanSearch search_plans(const PlanTask& task, const PlanChoices& choices, size_t keep) {
  return Search(task, choices, keep).run();
}

}  // namespace troupe::parallel
