#include "actors/train/trainer_actor.h"

#include <utility>
#include <variant>
#include <vector>

#include "actors/train/head_actor.h"
#include "runtime/actor/handoff.h"
#include "runtime/actor/node.h"
#include "runtime/actor/waiting.h"

namespace troupe::train {

using actor::Task;

namespace {

// Short steps are told of together, this often: what a message costs is to wake two threads for it.
constexpr double kTellEvery = 0.1;  // seconds

// What a rank does goes to the head as messages. A step waits for none of them, unless the head's mailbox is full:
// metrics are not worth unbounded memory. A checkpoint waits until the head has given it its name.
class Reporter final : public RankObserver {
 public:
  Reporter(const actor::Ref<HeadActor>& head, const Clock& clock) : head_(head), clock_(clock) {}
  ~Reporter() override {
    for (const MetricsLine& line : lines_) (void)head_.try_tell<&HeadActor::stepped>(line).ok();
  }
  void stepped(const MetricsLine& line) override {
    lines_.push_back(line);
    if (const double now = clock_.seconds(); now - told_ >= kTellEvery) {
      told_ = now;
      tell();
    }
  }
  void staged(const StagedCheckpoint& staged) override {
    tell();
    ask<&HeadActor::staged>(staged);
  }
  void tell() {
    for (const MetricsLine& line : std::exchange(lines_, {})) {
      if (!head_.try_tell<&HeadActor::stepped>(line).ok()) ask<&HeadActor::stepped>(line);
    }
  }

 private:
  // However long the head's disk takes: a head that is gone is noticed by its link.
  template <auto M, class T>
  void ask(const T& message) {
    const auto sent = head_.ask_blocking<M>(message, kPlanDeadline);
    if (!sent.ok()) throw parallel::CommunicationError(sent.error().message());
  }
  const actor::Ref<HeadActor>& head_;
  const Clock& clock_;
  std::vector<MetricsLine> lines_;  // not told of yet
  double told_ = -kTellEvery;
};

constexpr std::chrono::milliseconds kReportPatience{500};

template <class Answer>
Answer answer_of(const Error& error) {
  Answer answer;
  answer.failure = RankFailure::of(error);
  return answer;
}

}  // namespace

TrainerActor::~TrainerActor() { interrupt(); }

// Ends the job at hand, if there is one: other ranks may wait for what it never does.
void TrainerActor::interrupt() {
  if (jobs_->load() == 0) return;
  stopped_ = true;
  if (rank_) rank_->request_stop();
  context_.ranks->abort(fmt::format("rank {} was told to stop", context_.ranks->rank()));
}

template <class T, class Work>
Task<Result<Result<T>>> TrainerActor::on_thread(Work work) {
  // What was returned, or thrown instead.
  using Outcome = std::variant<Result<T>, std::exception_ptr>;
  const actor::Handoff<Outcome> handoff;
  ++*jobs_;
  thread_.post([jobs = jobs_, ranks = context_.ranks, work = std::move(work), sender = handoff.sender()]() mutable {
    try {
      Outcome outcome(work());
      --*jobs;
      sender.set(std::move(outcome));
    } catch (const parallel::CommunicationError& error) {  // names who has failed, or did not come
      ranks->abort(error.what());
      --*jobs;
      sender.set(Outcome(std::current_exception()));
    } catch (const std::bad_alloc&) {  // as another generation would find out, too
      Error error =
          failed("rank {}: out of memory: use a smaller model, micro_batch or sequence_length", ranks->rank());
      ranks->abort(error.message());
      --*jobs;
      sender.set(Outcome(Result<T>(std::move(error))));
    } catch (const std::exception& error) {
      // The others wait for this rank in vain, and shall say so, too.
      const std::string cause = fmt::format("rank {} failed: {}", ranks->rank(), error.what());
      ranks->abort(cause);
      --*jobs;
      sender.set(Outcome(std::make_exception_ptr(std::runtime_error(cause))));
    }
  });
  Outcome outcome = TROUPE_CO_TRY(co_await handoff.wait(actor::kNever));
  if (auto* thrown = std::get_if<std::exception_ptr>(&outcome)) std::rethrow_exception(*thrown);
  co_return std::get<Result<T>>(std::move(outcome));
}

Task<Result<RankReady>> TrainerActor::prepare(RankAssignment assignment) {
  using Made = std::unique_ptr<TrainingRank>;
  Result<Made> rank = TROUPE_CO_TRY(co_await on_thread<Made>([this, assignment = std::move(assignment)] {
    return TrainingRank::create(assignment, context_.setup, context_.device, *context_.ranks, context_.files,
                                context_.clock, context_.trace, [this] { return stopped_.load(); });
  }));
  if (!rank.ok()) co_return answer_of<RankReady>(rank.error());
  rank_ = std::move(*rank);
  co_return RankReady{{}, rank_->parameters(), context_.device.description()};
}

Task<Result<RankLoaded>> TrainerActor::load(CheckpointFolder from) {
  TROUPE_CHECK(rank_, "a checkpoint before prepare()");
  const Result<int64_t> completed = TROUPE_CO_TRY(
      co_await on_thread<int64_t>([this, rank = rank_.get(), from = std::move(from)]() -> Result<int64_t> {
        TROUPE_TRY(rank->load(from.folder, [this] { return stopped_.load(); }));
        return rank->completed();
      }));
  co_return completed.ok() ? RankLoaded{{}, *completed} : answer_of<RankLoaded>(completed.error());
}

Task<Result<PlanReport>> TrainerActor::run(StepPlan plan) {
  TROUPE_CHECK(rank_, "a plan before prepare()");
  const Result<PlanReport> report = TROUPE_CO_TRY(co_await on_thread<PlanReport>([this, rank = rank_.get(), plan] {
    Reporter reporter(context_.head, context_.clock);
    auto report = rank->run(plan, reporter);
    reporter.tell();
    return report;
  }));
  co_return report.ok() ? *report : answer_of<PlanReport>(report.error());
}

void TrainerActor::stop() {
  stopped_ = true;
  if (rank_) rank_->request_stop();
}

void TrainerActor::flush_trace() {
  if (context_.trace != nullptr) context_.trace->flush();
}

Task<std::string> TrainerActor::report() {
  std::string text = rank_ ? rank_->activity().describe() : "no model and data yet";
  const std::string waits = rank_ ? rank_->under_way() : context_.ranks->under_way();
  if (!waits.empty()) text += "; " + waits;
  if (context_.head.endpoint()->node() == node().options().id) co_return text;
  const actor::Handoff<actor::NodeReport> report;
  node().report([sender = report.sender()](actor::NodeReport made) { sender.set(std::move(made)); });
  const auto made = co_await report.wait(kReportPatience);
  co_return text + "\n" + (made.ok() ? made->text() : made.error().message() + "\n");
}

Task<void> TrainerActor::on_stop() {
  interrupt();
  (void)co_await on_thread<bool>([] { return Result<bool>(true); });  // the job at hand has ended
}

}  // namespace troupe::train
