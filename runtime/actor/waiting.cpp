#include "runtime/actor/waiting.h"

#include <algorithm>

#include "runtime/actor/linking.h"
#include "runtime/actor/node.h"
#include "runtime/actor/report.h"
#include "runtime/base/check.h"

namespace troupe::actor {
void wake(Executor& executor, uint64_t number) {
  auto message = std::make_unique<Notice<void>>(number, Result<void>());
  message->asker = &executor;
  executor.answer(std::move(message));
}

Task<Result<net::Peer>> connect(Node& node, net::Transport& transport, std::string address,
                                std::chrono::nanoseconds timeout) {
  const Handoff<net::Peer> peer;
  node.connect(transport, address,
               [sender = peer.sender()](Result<net::Peer> result) { sender.set(std::move(result)); });
  co_return co_await peer.wait(timeout);
}

bool Sleep::start(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return status_ = interrupted_by(*refusal), false;
  const Time now = scope.cell->executor().now();
  const Time end = deadline_after(now, duration_);
  whole_ = end <= scope.deadline;
  begin(scope, waiter, std::min(end, scope.deadline), now);
  return true;
}

void Sleep::fail(const Error& error) {
  if (!whole_ || scope().stopped != nullptr) status_ = error;
}

Error Sleep::late() const {
  return failed("the deadline of {} came before {} had passed", scope().method->name, seconds_text(duration_));
}

bool Join::start(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return result_ = interrupted_by(*refusal), false;
  Executor& executor = scope.cell->executor();
  const Time now = executor.now();
  begin(scope, waiter, std::min(deadline_after(now, timeout_), scope.deadline), now);
  target_->watch(&executor, this, [asker = Handle<Executor>(&executor), n = number()](const Down& down) {
    Notice<Cause> ended(n, down.cause);
    asker->deliver(ended);
  });
  if (!why_.empty()) stop_now(*target_, why_);
  return true;
}

Join::~Join() {
  if (number() != 0) target_->unwatch(this);
}

void Join::accept(Message& answer) { result_ = std::move(static_cast<Replying<Cause>&>(answer).reply); }

void Join::fail(const Error& error) {
  target_->unwatch(this);
  result_ = error;
}

Error Join::late() const {
  std::string text = fmt::format("{} has not ended within {}", target_->name(), seconds_text(deadline() - since()));
  // What keeps it can be told where it lives on this thread; otherwise Node::report says it.
  const auto* cell = dynamic_cast<const Cell*>(target_.get());
  if (cell != nullptr && &cell->executor() == &executor()) text += ": " + describe_blockers(*cell);
  return failed("{}", text);
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
