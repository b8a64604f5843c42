#include "actors/train/head_actor.h"

#include <algorithm>
#include <deque>

#include "runtime/actor/waiting.h"
#include "runtime/base/human_format.h"

namespace troupe::train {

using actor::Ref;
using actor::Task;

namespace {

constexpr std::chrono::seconds kTracePatience{2};

// The generations that were lost within a window, and of what.
class RestartBudget {
 public:
  explicit RestartBudget(const HeadOptions& options) : options_(options) {}
  // Counts one more, lost at `now`; false if that is too many.
  bool spend(std::chrono::nanoseconds now, std::string cause) {
    lost_.emplace_back(now, std::move(cause));
    while (now - lost_.front().first > options_.window) lost_.pop_front();
    return static_cast<int>(lost_.size()) <= options_.max_restarts;
  }
  const std::string& first_cause() const { return lost_.front().second; }

 private:
  const HeadOptions& options_;
  std::deque<std::pair<std::chrono::nanoseconds, std::string>> lost_;
};

std::string ranks_text(int ranks) { return fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"); }

}  // namespace

Task<Result<RunEnd>> HeadActor::run(Ref<AgentActor> agent) {
  agent_ = std::move(agent);
  started_ = context_.clock.seconds();
  context_.assignment.tokenizer_fingerprint = context_.setup.tokenizer->fingerprint();
  context_.assignment.data_fingerprint = context_.setup.data->fingerprint;
  RestartBudget budget(context_.options);
  while (true) {
    Result<PlanReport> report = co_await generation();
    if (context_.trace != nullptr && gang_.size() > 0) {
      (void)co_await gang_.ask<&TrainerActor::flush_trace>(kTracePatience);
    }
    const Result<GangEnd> gone = co_await agent_.ask<&AgentActor::end_gang>(context_.options.end_deadline);
    const std::string cause = report.ok() ? "" : loss(gone.ok() ? *gone : GangEnd(), report.error());
    if (context_.trace != nullptr && lost_) {
      context_.trace->note(now() - context_.trace_origin,
                           fmt::format("generation {} ended: {}; what its ranks had not sent is missing",
                                       context_.folder.generation(), cause));
    }
    gang_ = {};
    if (failure_) report = *failure_;
    // A stop that comes before the first plan leaves all as it was, whoever was lost on the way.
    const bool stopped_early = stopping_ && !computing_ && !failure_ && !report.ok() &&
                               (lost_ || report.error().kind() == ErrorKind::interrupted);
    if (stopped_early) report = PlanReport{{}, saved_step_, true};
    lost_ = lost_ && !stopped_early;
    if (failure_ || !lost_) {
      if (!gone.ok()) context_.observer.warned("the run has ended, but " + gone.error().message());
      if (!report.ok()) co_return std::move(report).error();
      TROUPE_CO_TRY(draw());
      const RunEnd end = end_of(*report);
      context_.observer.ended(end);
      co_return end;
    }
    if (!gone.ok()) co_return failed("{}; no other generation can start: {}", cause, gone.error().message());
    if (stopping_) co_return failed("{}, while the run was ending; go on with --resume", cause);
    if (!budget.spend(now(), cause)) {
      co_return failed("{} generations were lost within {}: too many; the first: {}", context_.options.max_restarts + 1,
                       human_duration(std::chrono::duration<double>(context_.options.window).count()),
                       budget.first_cause());
    }
    context_.observer.warned(fmt::format(
        "{}; generation {} starts on {} {}", cause, context_.folder.generation() + 1, ranks_text(context_.ranks),
        saved_.empty() ? "from the beginning" : fmt::format("from step {}", saved_step_)));
  }
}

// What all ranks answer, which is the same but where one has failed. Asks alone decide what a generation's end means:
// a failure that was answered would come again, whoever else is lost; an answer that did not come is a lost rank.
template <class Answer>
Result<Answer> HeadActor::joined(const std::vector<Result<Answer>>& answers) {
  for (const Result<Answer>& answer : answers) {
    if (answer.ok() && answer->failure) return answer->failure.error();
  }
  for (const Result<Answer>& answer : answers) {
    lost_ = !answer.ok();
    if (lost_) return Error(answer.error());
  }
  if constexpr (requires(const Answer& answer) { answer.completed; }) {
    for (size_t rank = 1; rank < answers.size(); ++rank) {
      const int64_t first = answers[0]->completed, other = answers[rank]->completed;
      if (first != other) return failed("rank 0 is at step {}, rank {} at step {}", first, rank, other);
    }
  }
  return answers.front();
}

template <class Answer>
Result<Answer> HeadActor::in_time(const std::vector<Result<Answer>>& answers, std::chrono::nanoseconds asked,
                                  std::string_view what) {
  Result<Answer> all = joined(answers);
  const std::chrono::nanoseconds deadline = context_.options.load_deadline;
  if (!lost_ || now() - asked < deadline) return all;
  lost_ = false;  // another generation would be as slow
  const auto late = std::ranges::find_if(answers, [](const Result<Answer>& answer) { return !answer.ok(); });
  return failed("rank {} has not {} within {}: is its disk too slow?", late - answers.begin(), what,
                human_duration(std::chrono::duration<double>(deadline).count()));
}

Task<Result<PlanReport>> HeadActor::generation() {
  lost_ = computing_ = false;
  cause_.clear();
  if (stopping_) co_return PlanReport{{}, saved_step_, true};
  context_.assignment.generation = TROUPE_CO_TRY(context_.folder.next_generation());
  Result<std::vector<Ref<TrainerActor>>> started = co_await agent_.ask<&AgentActor::start_gang>(
      GangSpec{context_.ranks, context_.assignment.generation, self<HeadActor>()}, context_.options.start_deadline);
  if (!started.ok()) {
    // Ranks that came up and went, unlike a program that is not there, may do better another time.
    lost_ = started.error().kind() == ErrorKind::failed;
    co_return std::move(started).error();
  }
  gang_ = actor::MeshRef(std::move(*started));
  if (stopping_) co_return PlanReport{{}, saved_step_, true};
  for (const Ref<TrainerActor>& rank : gang_) watch<&HeadActor::rank_down>(rank);

  const auto asked = now();
  const auto ready = co_await gang_.ask<&TrainerActor::prepare>(context_.assignment, context_.options.load_deadline);
  const RankReady first = TROUPE_CO_TRY(in_time(ready, asked, "opened its data and built its model"));
  int64_t completed = TROUPE_CO_TRY(co_await load_newest());
  last_step_ = saved_step_ = completed;
  TROUPE_CO_TRY(context_.folder.begin(completed));
  TROUPE_CO_TRY(announce(first, completed));

  PlanReport report{{}, completed, false};
  computing_ = true;
  const int64_t steps = context_.setup.options.train.steps;
  while (report.completed < steps && !stopping_) {  // between two plans all there is has been saved
    const auto reports = co_await gang_.ask<&TrainerActor::run>(next_plan(report.completed), kPlanDeadline);
    Result<PlanReport> all = joined(reports);
    if (failure_) co_return *failure_;
    if (!all.ok() && !lost_) {
      co_return failed("{}; {}", all.error().message(),
                       saved_.empty() ? "no checkpoint was saved yet" : "the last good checkpoint is " + saved_);
    }
    report = TROUPE_CO_TRY(std::move(all));
  }
  report.interrupted = report.completed < steps;
  co_return report;
}

// The newest checkpoint that every rank can read to its last byte; none at all is step 0. Those that are damaged are
// set aside, so that none of them passes for a good one later.
Task<Result<int64_t>> HeadActor::load_newest() {
  if (!context_.resume && saved_.empty()) co_return 0;
  checkpoint::CheckpointStore& store = context_.folder.checkpoints();
  const std::vector<std::string> folders = store.list();
  std::vector<std::string> unreadable;
  for (const std::string& folder : folders) {
    const Result<RankLoaded> loaded = co_await load(folder);
    if (loaded.ok()) {
      for (const std::string& damaged : unreadable) TROUPE_CO_TRY(context_.folder.set_aside(damaged));
      saved_ = folder;
      co_return loaded->completed;
    }
    const bool is_damaged = loaded.error().kind() == ErrorKind::damaged;
    if (!is_damaged || other_run_ || folder == folders.back()) co_return Error(loaded.error());
    context_.observer.warned(loaded.error().message() + "; trying the one before it");
    unreadable.push_back(folder);
  }
  co_return 0;
}

Task<Result<RankLoaded>> HeadActor::load(const std::string& folder) {
  const auto checkpoint = checkpoint::Checkpoint::open(folder);
  if (!checkpoint.ok()) co_return Error(checkpoint.error());
  const Status fits = context_.setup.check_fits(*checkpoint);
  other_run_ = !fits.ok();  // no older one would fit better
  if (!fits.ok()) co_return Error(fits.error());
  const auto asked = now();
  const auto answers =
      co_await gang_.ask<&TrainerActor::load>(CheckpointFolder{folder}, context_.options.load_deadline);
  auto loaded = in_time(answers, asked, "read " + folder);
  if (!loaded.ok() || !saved_.empty()) co_return loaded;
  if (const std::string differences = context_.setup.differences_from(*checkpoint); !differences.empty())
    context_.observer.warned(fmt::format("{} is of another run: {}; it goes on as this one", folder, differences));
  co_return loaded;
}

StepPlan HeadActor::next_plan(int64_t completed) const {
  const TrainOptions& train = context_.setup.options.train;
  const int64_t save_every = context_.setup.options.checkpoint.every;
  const int64_t next_save = save_every > 0 ? (completed / save_every + 1) * save_every : train.steps;
  return {completed + 1, std::min(train.steps, next_save)};
}

Status HeadActor::announce(const RankReady& ready, int64_t completed) {
  const RunConfig& options = context_.setup.options;
  const data::TrainingData& data = *context_.setup.data;
  const std::string& path = context_.assignment.config_path;
  title_ = fmt::format("{}: {:.2f}M parameters", path.substr(path.rfind('/') + 1),
                       static_cast<double>(ready.parameters) / 1e6);
  const std::string layout = ranks_text(context_.ranks) + (context_.ranks > 1 ? ": " + context_.layout : std::string());
  TROUPE_TRY(context_.folder.write_run_json(context_.setup, {path, ready.device, layout, ready.parameters},
                                            context_.config_json));
  context_.observer.started({path, context_.folder.path(), options, context_.setup.tokenizer->description(),
                             ready.device, layout, ready.parameters, data.train_tokens,
                             data.validation ? data.validation->target_count() : 0, completed + 1,
                             context_.folder.generation()});
  return {};
}

void HeadActor::stepped(MetricsLine line) {
  if (line.generation != context_.folder.generation()) return;  // of a rank that was given up
  last_step_ = line.step;
  const MetricsOptions& metrics = context_.setup.options.metrics;
  const Status written =
      context_.folder.write(line, line.step % metrics.every == 0 || line.validation_loss.has_value());
  if (!written.ok()) return give_up(written.error());
  context_.observer.stepped(line);
  if (!line.validation_loss) {
    const bool last = line.step == context_.setup.options.train.steps;
    if (stopping_ && last && context_.setup.data->validation)
      context_.observer.warned(fmt::format("the validation after step {}, the last one, was cut short", line.step));
    return;
  }
  context_.observer.validated(line);
  if (const Status drawn = draw(); !drawn.ok()) give_up(drawn.error());
}

void HeadActor::staged(StagedCheckpoint staged) {
  if (staged.generation != context_.folder.generation()) return;  // never published: pruned with the next save
  const Result<std::string> folder = context_.folder.publish(staged);
  if (!folder.ok()) return give_up(folder.error());
  saved_ = *folder;
  saved_step_ = staged.step;
  const Status pruned = context_.folder.checkpoints().prune(context_.setup.options.checkpoint.keep);
  if (!pruned.ok()) context_.observer.warned("an older checkpoint stays: " + pruned.error().message());
}

void HeadActor::traced(TracePiece piece) {
  if (context_.trace != nullptr) context_.trace->append(piece);
}

void HeadActor::rank_down(actor::Down down) {
  const auto rank = std::ranges::find_if(gang_, [&](const Ref<TrainerActor>& one) {
    return one.endpoint()->node() == down.node && one.endpoint()->id() == down.actor;
  });
  if (rank == gang_.end() || down.cause->kind == actor::Exit::Kind::stopped) return;
  if (cause_.empty()) {
    lost_by_link_ = down.cause->kind == actor::Exit::Kind::lost;
    cause_ = lost_by_link_ ? fmt::format("rank {} ({}) was lost {}: {}", rank - gang_.begin(), down.cause->where,
                                         when(), down.cause->why)
                           : fmt::format("{}, {}", down.cause->why, when());
  }
  (void)agent_.try_tell<&AgentActor::kill_gang>(cause_).ok();  // end_gang() follows in any case
}

std::string HeadActor::when() const {
  if (gang_.size() == 0) return "while the ranks came up";
  if (!computing_) return "while the ranks loaded";
  const int64_t steps = context_.setup.options.train.steps;
  return last_step_ < steps ? fmt::format("at step {}", last_step_ + 1) : fmt::format("after step {}", steps);
}

std::string HeadActor::loss(const GangEnd& end, const Error& unanswered) const {
  const bool host_knows_better = cause_.empty() || lost_by_link_;
  if (!host_knows_better || end.first.empty()) return cause_.empty() ? unanswered.message() : cause_;
  return fmt::format("{} {}{}{}", end.first, when(), end.last_words.empty() ? "" : ": ", end.last_words);
}

void HeadActor::stop() {
  stopping_ = true;
  for (const Ref<TrainerActor>& rank : gang_) (void)rank.try_tell<&TrainerActor::stop>().ok();
  // Ranks that are still to come up are not waited for.
  if (gang_.size() == 0 && agent_) (void)agent_.try_tell<&AgentActor::kill_gang>("the run was asked to stop").ok();
}

void HeadActor::give_up(const Error& error) {
  if (failure_) return;
  failure_ = error;
  stop();
}

Status HeadActor::draw() const { return context_.folder.draw(title_); }

RunEnd HeadActor::end_of(const PlanReport& report) const {
  return {report.completed, context_.folder.last_loss(), context_.clock.seconds() - started_, report.interrupted,
          saved_};
}

}  // namespace troupe::train
