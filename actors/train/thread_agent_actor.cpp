#include "actors/train/thread_agent_actor.h"

#include "actors/train/run_trace.h"
#include "runtime/actor/waiting.h"

namespace troupe::train {

using actor::Ref;
using actor::Task;

Task<void> ThreadAgentActor::on_start() {
  // A rank that fails is the head's business, which watches it.
  supervise({.strategy = actor::Strategy::ignore});
  co_return;
}

Task<Result<std::vector<Ref<TrainerActor>>>> ThreadAgentActor::start_gang(GangSpec spec) {
  TROUPE_CHECK(ranks_.empty(), "a gang while another lives");
  for (auto& group : parallel::make_thread_communicators(spec.ranks, "world", options_.collectives))
    groups_.push_back(std::move(group));
  for (int rank = 0; rank < spec.ranks; ++rank) {
    devices_.push_back(kernels::make_cpu_device(options_.threads));
    if (options_.trace != nullptr) {
      traces_.push_back(trace_of_rank(rank, "", options_.trace_origin));
      traces_.back()->deliver_to(into(*options_.trace));
      groups_[static_cast<size_t>(rank)]->trace_to(traces_.back().get());
    }
    actor::SpawnOptions options;
    options.name = fmt::format("trainer-{}.g{}", rank, spec.generation);
    options.reentrant = true;
    ranks_.push_back(spawn<TrainerActor>(
        options, RankContext{*devices_.back(), options_.files, options_.clock, groups_[static_cast<size_t>(rank)],
                             spec.head, options_.setup, options_.trace == nullptr ? nullptr : traces_.back().get()}));
  }
  co_return ranks_;
}

Task<void> ThreadAgentActor::kill_gang(std::string reason) {
  for (const auto& group : groups_) group->abort(reason);
  co_return;
}

Task<Result<GangEnd>> ThreadAgentActor::end_gang() {
  co_await kill_gang("the generation has ended");
  for (const Ref<TrainerActor>& rank : ranks_) {
    const auto ended = co_await stop_and_join(rank, "the generation has ended", std::chrono::seconds(30));
    if (!ended.ok()) co_return Error(ended.error());
  }
  ranks_.clear();
  groups_.clear();
  devices_.clear();
  traces_.clear();
  co_return GangEnd();
}

}  // namespace troupe::train
