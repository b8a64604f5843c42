#include "parallel/schedule/schedule.h"

#include <algorithm>
#include <array>

#include "runtime/base/check.h"

namespace troupe::parallel {
namespace {

bool interleaves(const Pipeline& p) { return p.virtual_stages > 1; }

// How many passes forward a stage runs before a backward follows each. The last stage has its first backward to run
// when a microbatch has been through all chunks but its last, (v − 1) p passes. A stage starts earlier than that one by
// as many passes as there are stages behind it, and gets its first gradient later by as many: interleaved, it fills all
// of that time (Megatron-LM's rule); 1f1b leaves half of it idle, and holds half as many microbatches.
int warm_up(const Pipeline& p, int stage) {
  const int behind = p.stages - 1 - stage, total = p.virtual_stages * p.microbatches;
  if (p.schedule == Schedule::gpipe) return total;
  return std::min(total, interleaves(p) ? 2 * behind + (p.virtual_stages - 1) * p.stages : behind);
}

// Groups of `stages` microbatches go through one chunk after another; backward from the last chunk on.
std::vector<Pass> in_groups(const Pipeline& p, bool forward) {
  std::vector<Pass> order;
  const int group = interleaves(p) ? p.stages : p.microbatches;
  for (int begin = 0; begin < p.microbatches; begin += group) {
    for (int i = 0; i < p.virtual_stages; ++i) {
      const int virtual_stage = forward ? i : p.virtual_stages - 1 - i;
      for (int m = begin; m < std::min(begin + group, p.microbatches); ++m)
        order.push_back({.forward = forward, .microbatch = m, .virtual_stage = virtual_stage});
    }
  }
  return order;
}

std::string nearest_multiples(int value, int of) {
  const int below = value / of * of;
  return below > 0 ? fmt::format("{} or {}", below, below + of) : fmt::format("{}", of);
}

Status check_chunks(const Pipeline& p, int layers) {
  if (p.stages < 1 || p.virtual_stages < 1 || p.microbatches < 1)
    return usage_error("{} stages × {} virtual stages and {} microbatches: each is 1 at least", p.stages,
                       p.virtual_stages, p.microbatches);
  if (p.stages > layers)
    return usage_error(
        "parallel.pipeline = {}: each stage has a block at least, and model.layers = {}; nearest valid: {}", p.stages,
        layers, layers);
  if (p.virtual_stages > 1 && p.schedule != Schedule::interleaved)
    return usage_error(
        "parallel.virtual_stages = {}: only the schedule \"interleaved\" has virtual stages, and parallel.schedule = "
        "\"{}\"; nearest valid: 1",
        p.virtual_stages, name_of(p.schedule));
  if (p.virtual_stages > 1 && p.stages == 1)
    return usage_error(
        "parallel.virtual_stages = {}: one stage has nothing to interleave with, and parallel.pipeline = 1; nearest "
        "valid: 1",
        p.virtual_stages);
  if (p.virtual_stages > layers / p.stages)
    return usage_error(
        "parallel.virtual_stages = {}: each virtual stage has a block at least, and parallel.pipeline = {} leaves a "
        "stage {} of model.layers = {}; nearest valid: {}",
        p.virtual_stages, p.stages, layers / p.stages, layers, layers / p.stages);
  return {};
}

}  // namespace

std::string_view name_of(Schedule schedule) {
  constexpr std::array<std::string_view, 3> names{"gpipe", "1f1b", "interleaved"};
  return names[static_cast<size_t>(schedule)];
}

Status check(const Pipeline& p, int layers) {
  const Status chunks = check_chunks(p, layers);
  if (!chunks.ok() || !interleaves(p) || p.microbatches % p.stages == 0) return chunks;
  return usage_error(
      "{} microbatches (train.global_batch ÷ parallel.data ÷ train.micro_batch): the schedule \"interleaved\" takes "
      "them in groups of parallel.pipeline = {}; nearest valid: {}",
      p.microbatches, p.stages, nearest_multiples(p.microbatches, p.stages));
}

Status check_forward(const Pipeline& p, int layers) { return check_chunks(p, layers); }

std::vector<Pass> passes(const Pipeline& p, int stage) {
  const std::vector<Pass> forward = in_groups(p, true), backward = in_groups(p, false);
  const auto warm = static_cast<size_t>(warm_up(p, stage));
  std::vector<Pass> order(forward.begin(), forward.begin() + static_cast<std::ptrdiff_t>(warm));
  for (size_t i = 0; i < backward.size(); ++i) {
    if (warm + i < forward.size()) order.push_back(forward[warm + i]);
    order.push_back(backward[i]);
  }
  return order;
}

std::vector<Pass> forward_passes(const Pipeline& p, int stage) {
  TROUPE_CHECK(stage >= 0 && stage < p.stages, "stage {} of {}", stage, p.stages);
  return in_groups(p, true);
}

double bubble_fraction(const Pipeline& p) {
  return static_cast<double>(p.stages - 1) / static_cast<double>(p.virtual_stages * p.microbatches + p.stages - 1);
}

int peak_live_passes(const Pipeline& p, int stage) {
  return std::min(p.virtual_stages * p.microbatches, warm_up(p, stage) + 1);
}

}  // namespace troupe::parallel
