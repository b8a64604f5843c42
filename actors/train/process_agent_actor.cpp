#include "actors/train/process_agent_actor.h"

#include <algorithm>
#include <utility>

#include "runtime/actor/node.h"
#include "runtime/actor/waiting.h"

namespace troupe::train {

using actor::Ref;
using actor::Task;

namespace {

// How often the agent looks whether processes have come up or gone.
constexpr std::chrono::milliseconds kLook{5};
// How long a worker may take to end by itself.
constexpr std::chrono::seconds kFarewell{5};
// How long a keeper may take to report, once its rank is lost, and how often the agent looks meanwhile.
constexpr std::chrono::milliseconds kReport{250}, kShortLook{1};

actor::Address address_of(const RankJoined& rank) {
  return {rank.node, rank.trainer, fmt::format("trainer-{}.g{}", rank.rank, rank.generation)};
}

}  // namespace

Task<Result<std::vector<Ref<TrainerActor>>>> ProcessAgentActor::start_gang(GangSpec spec) {
  TROUPE_CHECK(gang_ == nullptr, "a gang while another lives");
  generation_ = spec.generation;
  ranks_.clear();
  ranks_.resize(static_cast<size_t>(spec.ranks));
  first_.reset();
  end_ = {};
  killing_ = killed_ = false;
  node_.enter_generation(static_cast<uint64_t>(spec.generation));
  gang_ = TROUPE_CO_TRY(launcher_->start(spec.ranks, spec.generation));
  while (!std::ranges::all_of(ranks_, [](const auto& rank) { return rank.has_value(); })) {
    if (killed_) co_return failed("the ranks were ended while they came up");
    if (look()) {
      // What is missing here will be missing the next time, too.
      if (first_ && first_->end.exit_code == Error(ErrorKind::environment, "").exit_code())
        co_return environment_error("{} while the ranks came up: {}", end_.first, end_.last_words);
      co_return failed("the ranks did not come up");
    }
    TROUPE_CO_TRY(co_await sleep(kLook));
  }
  std::vector<Ref<TrainerActor>> trainers;
  for (const auto& rank : ranks_) {
    trainers.push_back(TROUPE_CO_TRY(node().ref<TrainerActor>(address_of(*rank))));
  }
  co_return trainers;
}

Status ProcessAgentActor::joined(RankJoined rank) {
  if (gang_ == nullptr || killed_ || rank.generation != generation_ || rank.rank < 0 ||
      rank.rank >= static_cast<int64_t>(ranks_.size()))
    return failed("rank {} of generation {} is not awaited", rank.rank, rank.generation);
  if (!gang_->joined(static_cast<int>(rank.rank), static_cast<pid_t>(rank.pid)))
    return failed("rank {} has gone", rank.rank);
  ranks_[static_cast<size_t>(rank.rank)] = rank;
  return {};
}

bool ProcessAgentActor::look() {
  while (auto end = gang_->next_end()) {
    const bool well = end->end.signal == 0 && end->end.exit_code == 0;
    if (killed_ || well || (first_ && first_->at <= end->at)) continue;
    first_ = std::move(end);
    end_ = {fmt::format("rank {} (host {}, pid {}) {}", first_->rank, node_.self().host, first_->pid,
                        first_->end.describe()),
            first_->end.signal == 0 ? first_->last_words : ""};  // a signal's own handlers speak of themselves
  }
  // A rank takes the one that started it along: whose end says something only where no rank has told of its own.
  if (auto end = gang_->launcher_end(); end && !killed_ && end_.first.empty()) end_ = std::move(*end);
  return !end_.first.empty();
}

void ProcessAgentActor::kill_all() {
  killed_ = true;
  gang_->kill();
}

Task<void> ProcessAgentActor::kill_gang(std::string) {
  if (gang_ == nullptr || std::exchange(killing_, true)) co_return;
  // A link tells of a death before the dead one's keeper does. The gang may be over before one of them speaks.
  const auto patience = now() + kReport;
  const int64_t generation = generation_;
  const auto lives = [&] { return gang_ != nullptr && generation_ == generation; };
  while (lives() && !look() && now() < patience && (co_await sleep(kShortLook)).ok()) {
  }
  if (lives()) kill_all();
}

Task<Result<GangEnd>> ProcessAgentActor::end_gang() {
  if (gang_ == nullptr) co_return GangEnd();
  if (!killing_) {
    for (const auto& rank : ranks_) {
      if (!rank) continue;
      const auto trainer = node().ref<TrainerActor>(address_of(*rank));
      if (trainer.ok()) trainer->stop("the generation has ended");
    }
    const auto patience = now() + kFarewell;
    while (!gang_->launcher_end() && now() < patience) TROUPE_CO_TRY(co_await sleep(kLook));
    look();
    kill_all();
  }
  while (!killed_ || !gang_->gone()) TROUPE_CO_TRY(co_await sleep(kLook));
  gang_ = nullptr;
  ranks_.clear();
  co_return std::move(end_);
}

}  // namespace troupe::train
