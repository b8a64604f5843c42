#include "runtime/actor/ref.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "runtime/actor/cell.h"
#include "runtime/actor/node.h"

namespace troupe::actor {
namespace {

// What joins a message in a trace with the handler that sends it. Zero where nobody traces.
uint64_t trace_of(const Scope& scope, Executor& from) {
  if (scope.trace == 0 || from.trace == nullptr) [[likely]]
    return scope.trace;
  return from.trace_message(scope.trace, true);
}

Error refusal_of(Sent sent, const MethodInfo& method, const Endpoint& endpoint) {
  switch (sent) {
    case Sent::full: return failed("the mailbox of {} has no room for {}", endpoint.name(), method.name);
    case Sent::unfit:
      return failed("{} is on another node, and {} is not in its actor's Protocol", endpoint.name(), method.name);
    default: return undeliverable(method.name, endpoint.name(), *endpoint.cause());
  }
}

[[gnu::noinline]] Status send_anywhere(Endpoint& endpoint, std::unique_ptr<Message> message, const Executor* from) {
  const MethodInfo& method = message->method();
  const Sent sent = endpoint.send(message, from);
  if (sent == Sent::yes) return {};
  return refusal_of(sent, method, endpoint);
}

// A plain thread that waits for one answer.
class ThreadAsker final : public Asker {
 public:
  void answer(std::unique_ptr<Message> answered) override {
    const Handle<Asker> alive = std::move(answered->asker);  // the thread may have given up
    const std::lock_guard lock(mutex_);
    answered_ = std::move(answered);
    came_.notify_all();
  }
  // Null: it did not come in time.
  std::unique_ptr<Message> wait(Time timeout) {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, std::min(timeout, kLongestWait), [this] { return answered_ != nullptr; });
    return std::move(answered_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::unique_ptr<Message> answered_;
};

}  // namespace

std::string Exit::message() const {
  std::string text = who;
  if (!where.empty()) text += fmt::format(" ({})", where);
  text += kind == Kind::stopped ? " stopped" : kind == Kind::failed ? " failed" : " was lost";
  if (!why.empty()) text += ": " + why;
  return text;
}

std::string seconds_text(std::chrono::nanoseconds duration) {
  return fmt::format("{:.3g} s", std::chrono::duration<double>(duration).count());
}

Error interrupted_by(const Exit& cause) { return {ErrorKind::interrupted, cause.message()}; }

Error undeliverable(std::string_view method, std::string_view name, const Exit& cause) {
  if (cause.who == name) return failed("{} was not answered: {}", method, cause.message());
  return failed("{} was not answered by {}: {}", method, name, cause.message());
}

AskBase::~AskBase() {
  if (number() != 0) forget();
}

void AskBase::forget() { to_->forget(executor(), number(), &executor()); }

bool AskBase::send(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return set_error(interrupted_by(*refusal)), false;
  target_ = to_;
  Executor& from = scope.cell->executor();
  const Time now = from.now();
  begin(scope, waiter, std::min(deadline_after(now, timeout_), scope.deadline), now);
  message_->asker = &from;
  message_->ask = number();
  message_->scope.deadline = deadline();
  message_->scope.trace = trace_of(scope, from);
  const Sent sent = target_->send(message_, &from);
  if (sent == Sent::yes) return true;
  end();
  set_error(refusal_of(sent, *method_, *target_));
  return false;
}

void AskBase::fail(const Error& error) {
  forget();
  set_error(error);
}

Error AskBase::late() const { return failed("no {} within {}", describe(), seconds_text(deadline() - since())); }

std::string AskBase::describe() const { return fmt::format("answer of {} to {}", to_->name(), method_->name); }

bool Tell::send(Scope& scope, std::coroutine_handle<> waiter) {
  Cell* const here = to_->cell();
  if (here == nullptr || scope.stopped != nullptr || scope.trace != 0) [[unlikely]]
    return send_elsewhere(scope, waiter);
  if (!here->take(*message_, scope.cell->executor())) [[unlikely]]
    return send_elsewhere(scope, waiter);
  (void)message_.release();
  return false;
}

// To another node, another thread or a full mailbox; or not at all; or with a trace.
bool Tell::send_elsewhere(Scope& scope, std::coroutine_handle<> waiter) {
  if (const Exit* refusal = scope.refusal()) return error_ = interrupted_by(*refusal), false;
  Executor& from = scope.cell->executor();
  message_->scope.trace = trace_of(scope, from);
  const MethodInfo& method = message_->method();
  Sent sent = to_->send(message_, &from);
  if (sent == Sent::yes) return false;
  if (sent == Sent::full) {
    sent = wait_.emplace(*to_, method, error_).send(message_, scope, waiter);
    if (sent == Sent::yes) return true;
  }
  error_ = refusal_of(sent, method, *to_);
  return false;
}

RoomWait::~RoomWait() {
  if (number() != 0) target_->forget(executor(), number(), &executor());
}

Sent RoomWait::send(std::unique_ptr<Message>& message, Scope& scope, std::coroutine_handle<> waiter) {
  Executor& from = scope.cell->executor();
  const Time now = from.now();
  const Node* node = from.node();
  const Time patience = node == nullptr ? Time(0) : node->options().tell_deadline;
  begin(scope, waiter, scope.deadline == kNever ? deadline_after(now, patience) : scope.deadline, now);
  message->sender = &from;
  message->room = number();
  const Sent sent = target_->send_when_room(message, &from);
  if (sent != Sent::yes) end();
  return sent;
}

void RoomWait::accept(Message& answer) {
  if (const Error* error = answer.error()) error_ = *error;
}

void RoomWait::fail(const Error& error) {
  target_->forget(executor(), number(), &executor());
  error_ = error;
}

Error RoomWait::late() const { return failed("no {} within {}", describe(), seconds_text(deadline() - since())); }

std::string RoomWait::describe() const {
  return fmt::format("room in the mailbox of {} for {}", target_->name(), method_.name);
}

Status send_now(Endpoint& endpoint, std::unique_ptr<Message> message) {
  Cell* const cell = endpoint.cell();
  const Executor* const from = cell == nullptr ? endpoint.executor_here() : cell->executor_here();
  if (cell != nullptr && from != nullptr && cell->take(*message, *from)) [[likely]] {
    (void)message.release();
    return {};
  }
  return send_anywhere(endpoint, std::move(message), from);
}

void stop_now(Endpoint& endpoint, std::string why) {
  endpoint.request_stop(std::make_shared<const Exit>(Exit{Exit::Kind::stopped, endpoint.name(), "", std::move(why)}));
}

Result<std::unique_ptr<Message>> ask_and_wait(Endpoint& endpoint, std::unique_ptr<Message> message, Time timeout) {
  TROUPE_CHECK(endpoint.executor_here() == nullptr, "a loop's thread must not block");
  const MethodInfo& method = message->method();
  const Handle<ThreadAsker> asker(new ThreadAsker);
  message->asker = asker;
  message->ask = 1;
  const Time now = endpoint.now();
  message->scope.deadline = deadline_after(now, timeout);
  const Sent sent = endpoint.send(message, nullptr);
  if (sent != Sent::yes) return refusal_of(sent, method, endpoint);
  if (auto answered = asker->wait(timeout)) return answered;
  endpoint.forget(*asker, 1, nullptr);
  return failed("no answer of {} to {} within {}", endpoint.name(), method.name, seconds_text(timeout));
}

}  // namespace troupe::actor
