#include "runtime/actor/executor.h"

#include "runtime/actor/cell.h"
#include "runtime/actor/message.h"
#include "runtime/actor/node.h"
#include "runtime/base/check.h"

namespace troupe::actor {

Wait::~Wait() {
  if (number_ != 0) executor().remove(*this);
}

void Wait::accept(Message&) {}

void Wait::begin(Scope& scope, std::coroutine_handle<> waiter, Time deadline, Time now) {
  scope_ = &scope;
  waiter_ = waiter;
  since_ = now;
  deadline_ = deadline;
  scope.waits.push_back(*this);
  executor().add(*this);
}

void Wait::end() { executor().remove(*this); }

Executor& Wait::executor() const { return scope_->cell->executor(); }

Executor::~Executor() = default;

void Executor::close() {
  node_ = nullptr;
  timer_ = Timer();
  armed_ = kNever;
}

// The number of a message is hashed with what makes this executor unique, so that no node has to ask another.
uint64_t Executor::trace_message(uint64_t of, bool sent) {
  uint64_t number = (node_ == nullptr ? 0 : node_->options().id) + (static_cast<uint64_t>(index_) << 56);
  number = (number ^ ++traced_ << 20) * 0x9E3779B97F4A7C15;
  number = (number ^ number >> 32) * 0xD6E8FEB86659FD93;
  constexpr uint64_t kUpper = ~uint64_t{0} << 32;
  const uint64_t chain = of != 0 ? of & kUpper : (number & kUpper) | uint64_t{1} << 63;
  const uint64_t message = chain | (number ^ number >> 32) % (uint64_t{1} << 32);
  if (sent) trace->sent(message, now(), trace_lane());
  return message;
}

void Executor::answer(std::unique_ptr<Message> answered) {
  answered->answered = true;
  loop_.post(*answered.release());
}

void Executor::add(Wait& wait) {
  uint32_t index = free_;
  if (index == kNone) {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    free_ = slots_[index].next_free;
  }
  Slot& slot = slots_[index];
  slot.wait = &wait;
  wait.number_ = uint64_t{++slot.use} << 32 | index;
  wait.order_ = order_++;
  if (wait.deadline_ == kNever) return;
  by_deadline_.insert(wait);
  if (wait.deadline_ < armed_) arm();
}

void Executor::remove(Wait& wait) {
  const auto index = static_cast<uint32_t>(wait.number_);
  slots_[index].wait = nullptr;
  slots_[index].next_free = free_;
  free_ = index;
  wait.number_ = 0;
  using ScopeHook = intrusive::list_base_hook<AutoUnlink, intrusive::tag<OfScope>>;
  using DeadlineHook = intrusive::set_base_hook<AutoUnlink, intrusive::tag<OfDeadline>, intrusive::optimize_size<true>>;
  wait.ScopeHook::unlink();
  if (wait.deadline_ != kNever && wait.DeadlineHook::is_linked()) wait.DeadlineHook::unlink();
}

Wait* Executor::find(uint64_t number) const {
  const auto index = static_cast<uint32_t>(number);
  if (index >= slots_.size() || slots_[index].wait == nullptr || slots_[index].wait->number_ != number) return nullptr;
  return slots_[index].wait;
}

void Executor::resume(Wait& wait) {
  Scope& scope = wait.scope();
  const std::coroutine_handle<> waiter = wait.waiter_;
  remove(wait);
  scope.cell->resume(scope, waiter);
}

void Executor::deliver(std::unique_ptr<Message> answer) { deliver(*answer); }

void Executor::deliver(Message& answer) {
  Wait* wait = find(answer.ask);
  if (wait == nullptr) return;
  wait->accept(answer);
  resume(*wait);
}

void Executor::fail(Wait& wait, const Error& error) {
  wait.fail(error);
  resume(wait);
}

// One timer of the loop stands for all deadlines. It is set for the first of them and, because most waits end long
// before, not touched when that one goes.
void Executor::arm() {
  armed_ = by_deadline_.begin()->deadline_;
  timer_ = loop_.after(armed_ - now(), [this] { expire(); });
}

void Executor::expire() {
  const Handle<Executor> alive(this);
  armed_ = kNever;
  const Time time = now();
  while (!by_deadline_.empty() && by_deadline_.begin()->deadline_ <= time) {
    Wait& wait = *by_deadline_.begin();
    fail(wait, wait.late());
  }
  if (node_ != nullptr && !by_deadline_.empty() && armed_ == kNever) arm();
}

}  // namespace troupe::actor
