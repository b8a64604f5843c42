#include "runtime/actor/cell.h"

#include <algorithm>

#include "runtime/actor/node.h"
#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

// Messages that one actor may handle before others of its loop have their turn.
constexpr int kTurn = 64;
// One handler in so many is timed, and each of the first.
constexpr uint64_t kSampled = 64;

// Removes the message that `matches`; null: none does.
template <class F>
std::unique_ptr<Message> remove_if(JobQueue& queue, F matches) {
  std::unique_ptr<Message> found;
  for (JobQueue rest = queue.take(); !rest.empty();) {
    auto& message = static_cast<Message&>(rest.pop());
    if (found == nullptr && matches(message)) found.reset(&message);
    else queue.push(message);
  }
  return found;
}

const std::type_info& type_of(const Actor& actor) { return typeid(actor); }

}  // namespace

void notice_room(Message& message, Result<void> result) {
  const Handle<Asker> sender = std::move(message.sender);
  auto notice = std::make_unique<Notice<void>>(message.room, std::move(result));
  notice->asker = sender;
  sender->answer(std::move(notice));
}

void Message::run() noexcept {
  std::unique_ptr<Message> self(this);
  if (answered) {
    const Handle<Asker> to = std::move(asker);
    to->deliver(std::move(self));
  } else {
    const Handle<Endpoint> to = std::move(target);
    to->arrive(std::move(self));
  }
}

void handler_answered(Cell& cell, Message& message) { cell.answered(message); }
void handler_ended(Cell& cell) { cell.ended(); }
void handler_failed(Cell& cell, Message& message, const std::exception_ptr& exception) {
  cell.failed(&message, message.method(), exception);
}

Cell::Cell(Handle<Executor> executor, ActorId id, std::string name, const SpawnOptions& options, Cell* parent,
           std::unique_ptr<Actor> actor, ProtocolTable protocol)
    : Endpoint(id, std::move(name), this),
      executor_(std::move(executor)),
      actor_(std::move(actor)),
      protocol_(protocol),
      type_(type_of(*actor_)),
      parent_(parent),
      capacity_(static_cast<uint32_t>(std::max(options.mailbox, 1))),
      reentrant_(options.reentrant) {
  actor_->cell_ = this;
  if (options.supervision.strategy != Strategy::escalate) supervise(options.supervision);
}

Cell::~Cell() = default;

uint64_t Cell::node() const {
  const Node* node = executor_->node();
  return node == nullptr ? 0 : node->options().id;
}

Cell::Family& Cell::family() {
  if (family_ == nullptr) family_ = std::make_unique<Family>();
  return *family_;
}

Cause Cell::cause() const { return dead() ? cause_ : stop_cause_; }

Cause Cell::exit(Exit::Kind kind, std::string why) const {
  const Node* node = executor_->node();
  return std::make_shared<const Exit>(Exit{kind, name_, node == nullptr ? "" : node->where(), std::move(why)});
}

Sent Cell::send(std::unique_ptr<Message>& message, const Executor* from) {
  const bool bounded = message->asker == nullptr && !message->priority && message->sender == nullptr;
  if (from == executor_.get()) {
    if (state() >= State::stopping) return Sent::dead;
    if (bounded && (own_ >= capacity_ || !waiting_.empty())) return Sent::full;
    accept(*message.release());
    return Sent::yes;
  }
  if (dead()) return Sent::dead;
  if (foreign_.fetch_add(1, std::memory_order_relaxed) >= capacity_ && bounded) {
    foreign_.fetch_sub(1, std::memory_order_relaxed);
    return Sent::full;
  }
  message->foreign = true;
  message->target = this;
  executor_->loop().post(*message.release());
  return Sent::yes;
}

Sent Cell::send_when_room(std::unique_ptr<Message>& message, const Executor* from) {
  if (from == executor_.get()) {
    if (state() >= State::stopping) return Sent::dead;
    message->waits = true;
    accept(*message.release());
    return Sent::yes;
  }
  if (dead()) return Sent::dead;
  message->waits = true;
  message->target = this;
  executor_->loop().post(*message.release());
  return Sent::yes;
}

void Cell::arrive(std::unique_ptr<Message> message) {
  if (state() >= State::stopping) return refuse(std::move(message));
  accept(*message.release());
}

// Behind those that wait for room: they were sent earlier, perhaps by the same sender.
void Cell::accept(Message& message) {
  if (message.waits || (!waiting_.empty() && !message.priority)) {
    waiting_.push(message);
    return admit();
  }
  if (!message.foreign) ++own_;
  enqueue(message);
}

void Cell::enqueue(Message& message) {
  (message.priority ? priority_ : normal_).push(message);
  count_in();
}

// The message to handle now; null: there is none, or its turn has not come.
Message* Cell::next() {
  if (queued_ == 0) return nullptr;
  const bool urgent = !priority_.empty();
  if (running_count_ > 0 && (!reentrant_ || (!urgent && running_count_ >= capacity_))) return nullptr;
  auto& message = static_cast<Message&>((urgent ? priority_ : normal_).pop());
  --queued_;
  if (!message.foreign) --own_;
  if (message.foreign || message.sender != nullptr || !waiting_.empty()) [[unlikely]]
    made_room(message);
  return &message;
}

// A message has left that others know of, or that left room for others.
void Cell::made_room(Message& message) {
  if (message.foreign) foreign_.fetch_sub(1, std::memory_order_relaxed);
  if (message.sender != nullptr) notice_room(message, {});
  if (!waiting_.empty()) admit();
}

// Lets messages in that wait for room, once there is some for more than one: who waits is on another thread, perhaps,
// and should not have to come back for each. They count as the actor's own thread's, wherever they come from; and with
// them what has its place already and only keeps the order. Looks at what is inside, not at what is on its way.
void Cell::admit() {
  const uint32_t few = capacity_ - capacity_ / 4;
  if (own_ >= few || queued_ - own_ >= few) return;
  while (!waiting_.empty()) {
    auto& message = static_cast<Message&>(waiting_.front());
    if (message.waits && own_ >= capacity_) return;
    waiting_.pop();
    if (std::exchange(message.waits, false)) notice_room(message, {});
    if (!message.foreign) ++own_;
    enqueue(message);
  }
}

void Cell::run() noexcept {
  if (state_.load(std::memory_order_relaxed) != State::running && !is_awake()) return;
  int turn = kTurn;
  for (; turn > 0; --turn) {
    Message* message = next();
    if (message == nullptr) break;
    handle(*message);
  }
  scheduled_ = false;
  if (turn == 0 && queued_ > 0) schedule();
}

// On its turn, where it does not just run: whether it does now. False: it may be gone.
bool Cell::is_awake() {
  if (orphan_) {
    intrusive_ptr_release(static_cast<Endpoint*>(this));
    return false;
  }
  if (state() == State::starting && !started_) {
    static constexpr MethodInfo kOnStart{"on_start", kLocalMethod};
    started_ = true;
    run_hook(&Actor::on_start, kOnStart);
  }
  if (state() == State::running) return true;
  scheduled_ = false;  // on_start waits for something, or the end is near
  return false;
}

void Cell::drop() noexcept {
  scheduled_ = false;
  if (orphan_) intrusive_ptr_release(static_cast<Endpoint*>(this));
}

void Cell::orphan() {
  if (!scheduled_) return;
  orphan_ = true;
  intrusive_ptr_add_ref(static_cast<Endpoint*>(this));
}

void Cell::handle(Message& message) {
  message.scope.cell = this;
  // Those who asked may give up while it runs.
  if (message.asker != nullptr) [[unlikely]]
    enlist(message);
  Executor& executor = *executor_;
  executor.running_actor.store(id_, std::memory_order_relaxed);
  executor.running_method.store(message.scope.method, std::memory_order_relaxed);
  ++handled_;
  bool ended = false;
  if (--until_timed_ == 0) [[unlikely]]
    ended = begin_timed(message);
  else ended = message.begin(*actor_, *this);
  if (!ended && !message.is_listed()) [[unlikely]]
    enlist(message);
  executor.running_method.store(nullptr, std::memory_order_relaxed);
}

void Cell::enlist(Message& message) {
  message.list_in(running_);
  ++running_count_;
}

// The time of few handlers stands for that of all: a clock costs more than a small handler.
bool Cell::begin_timed(Message& message) {
  const bool each = executor_->trace != nullptr || handled_ <= kSampled;
  until_timed_ = each ? 1 : kSampled;
  bool ended = false;
  if (executor_->trace != nullptr) {
    const bool arrived = message.scope.trace != 0;
    if (!arrived) message.scope.trace = executor_->trace_message(0, false);
    traced(message.scope, arrived, [&] { ended = message.begin(*actor_, *this); });
    return ended;
  }
  const Time begun = executor_->now();
  ended = message.begin(*actor_, *this);
  busy_ += (each ? 1 : kSampled) * (executor_->now() - begun);
  return ended;
}

// The scope may be gone when `piece` returns.
template <class Piece>
void Cell::traced(const Scope& scope, bool arrived, Piece piece) {
  TraceSpan span{.category = "message",
                 .name = scope.method->name,
                 .detail = name_,
                 .lane = executor_->trace_lane(),
                 .trace = scope.trace,
                 .arrived = arrived};
  span.begin = executor_->now();
  piece();
  span.duration = executor_->now() - span.begin;
  busy_ += span.duration;
  executor_->trace->span(span);
}

void Cell::resume(Scope& scope, std::coroutine_handle<> coroutine) {
  static constexpr MethodInfo kResumed{"a handler that went on", kLocalMethod};
  executor_->running_actor.store(id_, std::memory_order_relaxed);
  executor_->running_method.store(&kResumed, std::memory_order_relaxed);
  if (executor_->trace != nullptr) [[unlikely]]
    traced(scope, false, [&] { coroutine.resume(); });
  else coroutine.resume();
  executor_->running_method.store(nullptr, std::memory_order_relaxed);
}

void Cell::answered(Message& message) {
  message.unlink();
  message.asker->answer(std::unique_ptr<Message>(&message));
  ended();
}

void Cell::ended() {
  --running_count_;
  if (state() == State::stopping) {
    if (running_.empty()) continue_stop();
  } else if (queued_ > 0) {
    schedule();
  }
}

void Cell::failed(Message* message, const MethodInfo& method, const std::exception_ptr& exception) {
  if (message != nullptr && !message->is_listed()) enlist(*message);
  std::string what = "an exception of unknown type";
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    what = e.what();
  } catch (...) {
  }
  fail(exit(Exit::Kind::failed, fmt::format("in {}: {}", method.name, what)));
}

void Cell::refuse(std::unique_ptr<Message> message) {
  if (message->foreign) foreign_.fetch_sub(1, std::memory_order_relaxed);
  const Cause why = cause();
  if (message->sender != nullptr) notice_room(*message, undeliverable(message->method().name, name_, *why));
  if (message->asker == nullptr) return;
  message->fail(undeliverable(message->method().name, name_, *why));
  const Handle<Asker> asker = message->asker;
  asker->answer(std::move(message));
}

void Cell::forget(const Asker& asker, uint64_t ask, const Executor* from) {
  if (dead()) return;
  if (from == executor_.get()) return forget_here(asker, ask);
  executor_->loop().post(
      [self = Handle<Cell>(this), asker = Handle<const Asker>(&asker), ask] { self->forget_here(*asker, ask); });
}

void Cell::forget_here(const Asker& asker, uint64_t ask) {
  const auto matches = [&](const Message& message) {
    return (message.asker == &asker && message.ask == ask) || (message.sender == &asker && message.room == ask);
  };
  for (Message& message : running_) {
    if (!matches(message)) continue;
    // The handler is told by the end of what it waits for, never in the midst of running.
    message.asker = nullptr;
    message.scope.stopped = exit(Exit::Kind::stopped, "the one who asked waits no more");
    executor_->loop().post([self = Handle<Cell>(this)] { self->cancel_running(); });
    return;
  }
  for (JobQueue* queue : {&waiting_, &priority_, &normal_}) {
    const auto message = remove_if(*queue, matches);
    if (message == nullptr) continue;
    if (message->foreign) foreign_.fetch_sub(1, std::memory_order_relaxed);
    else if (queue != &waiting_) --own_;
    if (queue != &waiting_) --queued_;
    if (message->sender != nullptr) notice_room(*message, ::troupe::failed("nobody waits for it any more"));
    return admit();
  }
}

void Cell::watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) {
  // Told on the watcher's loop, wherever this one ends.
  auto forward = [executor, told = std::move(told)](const Down& down) {
    executor->loop().post([told, down] { told(down); });
  };
  if (dead()) return forward({node(), id_, name_, cause_});
  executor_->loop().post([self = Handle<Cell>(this), who, forward = std::move(forward)]() mutable {
    self->add_watcher(who, std::move(forward));
  });
}

void Cell::unwatch(const void* who) {
  if (dead()) return;
  executor_->loop().post([self = Handle<Cell>(this), who] { self->remove_watcher(who); });
}

void Cell::request_stop(Cause why) {
  if (dead()) return;
  executor_->loop().post([self = Handle<Cell>(this), why = std::move(why)] { self->stop(why); });
}

ActorCounters Cell::counters() const { return {handled_, queued_, most_queued_, busy_}; }

}  // namespace troupe::actor
