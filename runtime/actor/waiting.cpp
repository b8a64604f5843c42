#include "runtime/actor/waiting.h"

#include <algorithm>

#include "runtime/actor/node.h"
#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

Error stopped(const Exit& why) { return {ErrorKind::interrupted, why.message()}; }

// How an actor ended, on its way to a Join.
class Ended final : public Replying<Cause> {
 public:
  Ended(uint64_t number, Cause cause) {
    ask = number;
    reply.emplace(std::move(cause));
  }
  void begin(Actor&, Cell&) override {}
  const MethodInfo& method() const override {
    static constexpr MethodInfo kInfo{"end", kLocalMethod};
    return kInfo;
  }
};

}  // namespace

bool Sleep::start(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return status_ = stopped(*refusal), false;
  const Time now = scope.cell->executor().now();
  const Time end = now + std::max(duration_, Time(0));
  whole_ = end <= scope.deadline;
  begin(scope, waiter, std::min(end, scope.deadline), now);
  return true;
}

void Sleep::fail(const Error& error) {
  if (!whole_ || scope().stopped != nullptr) status_ = error;
}

Error Sleep::late() const {
  return failed("the deadline of {} came before {} had passed", scope().method, seconds_text(duration_));
}

bool Join::start(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return result_ = stopped(*refusal), false;
  Executor& executor = scope.cell->executor();
  const Time now = executor.now();
  begin(scope, waiter, std::min(now + timeout_, scope.deadline), now);
  target_->watch(&executor, this, [asker = Handle<Executor>(&executor), n = number()](const Down& down) {
    Ended ended(n, down.cause);
    asker->deliver(ended);
  });
  if (!why_.empty()) stop_now(*target_, why_);
  return true;
}

Join::~Join() {
  if (number() != 0) target_->unwatch(this);
}

bool Join::accept(Message& answer) {
  result_ = std::move(static_cast<Replying<Cause>&>(answer).reply);
  return true;
}

void Join::fail(const Error& error) {
  target_->unwatch(this);
  result_ = error;
}

Error Join::late() const {
  return failed("{} has not ended within {}", target_->name(), seconds_text(deadline() - since()));
}

std::string Join::describe() const { return fmt::format("end of {}", target_->name()); }

Cell& Actor::cell() const {
  TROUPE_CHECK(cell_ != nullptr, "an actor is part of its node from on_start() on, not in its constructor");
  return *cell_;
}

const std::string& Actor::name() const { return cell().name(); }
Node& Actor::node() const {
  Node* node = cell().executor().node();
  TROUPE_CHECK(node != nullptr, "the node has gone");
  return *node;
}
std::chrono::nanoseconds Actor::now() const { return cell().executor().now(); }
void Actor::supervise(const Supervision& supervision) { cell().supervise(supervision); }
void Actor::stop(std::string why) { stop_now(cell(), std::move(why)); }

}  // namespace troupe::actor
