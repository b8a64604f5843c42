// How an actor starts, stops, fails, and what it does when its children do.
#include <algorithm>

#include "runtime/actor/cell.h"
#include "runtime/actor/node.h"
#include "runtime/base/check.h"

namespace troupe::actor {

// on_start and on_stop run like handlers.
class Cell::Hook final : public Replying<void> {
 public:
  Hook(Task<void> task, const MethodInfo& method) : Replying(method), task_(std::move(task)) {}
  bool begin(Actor&, Cell&) override { return start(task_); }
  void completed() noexcept override {
    Cell& cell = *scope.cell;
    bool* const was_over = over();
    if (task_.failed()) {
      cell.failed(this, method(), task_.exception());
    } else {
      task_ = {};
      if (cell.state() == State::starting) cell.state_.store(State::running, std::memory_order_release);
      const bool was_listed = is_listed();
      delete this;
      if (was_listed) cell.ended();
    }
    if (was_over != nullptr) *was_over = true;
  }
  void abandon() override { task_ = {}; }

 private:
  Task<void> task_;
};

void Cell::start() {
  scheduled_ = true;
  executor_->loop().post(*this);
}

void Cell::run_hook(Task<void> (Actor::*hook)(), const MethodInfo& method) {
  Task<void> task;
  try {
    task = (actor_.get()->*hook)();
  } catch (...) {
    return failed(nullptr, method, std::current_exception());
  }
  if (task) return handle(*new Hook(std::move(task), method));
  if (state() == State::starting) state_.store(State::running, std::memory_order_release);
}

void Cell::stop(Cause why) {
  if (state() >= State::stopping) return;
  stop_cause_ = std::move(why);
  state_.store(State::stopping, std::memory_order_release);
  refuse_all();
  cancel_running();
  continue_stop();
}

void Cell::fail(Cause cause) {
  failed_ = true;
  // What goes wrong on the way to a stop is worth more than that it was asked for; of failures, the first counts.
  if (stop_cause_ == nullptr || stop_cause_->kind == Exit::Kind::stopped) {
    spoilt_ = stop_cause_ != nullptr;
    stop_cause_ = std::move(cause);
  }
  if (state() < State::stopping) {
    state_.store(State::stopping, std::memory_order_release);
    refuse_all();
  }
  drop_running();
  continue_stop();
}

void Cell::kill(const Cause& why) {
  if (dead()) return;
  if (stop_cause_ == nullptr) stop_cause_ = why;
  state_.store(State::stopping, std::memory_order_release);
  failed_ = true;
  drop_running();
  for (JobQueue* queue : {&priority_, &normal_, &waiting_}) {
    for (JobQueue rest = queue->take(); !rest.empty();) rest.pop().drop();
  }
  actor_.reset();
  family_.reset();
  cause_ = stop_cause_;
  state_.store(State::dead, std::memory_order_release);
}

void Cell::refuse_all() {
  queued_ = own_ = 0;
  for (JobQueue* queue : {&priority_, &normal_, &waiting_}) {
    for (JobQueue rest = queue->take(); !rest.empty();) {
      refuse(std::unique_ptr<Message>(&static_cast<Message&>(rest.pop())));
    }
  }
}

// Ends what the handlers wait for that have been told to stop: all of them, where the actor stops.
void Cell::cancel_running() {
  const auto next_wait = [this]() -> Wait* {
    for (Message& message : running_) {
      if (state() == State::stopping && !stop_hook_done_ && message.scope.stopped == nullptr) {
        message.scope.stopped = stop_cause_;
      }
      if (message.scope.stopped != nullptr && !message.scope.waits.empty()) return &message.scope.waits.front();
    }
    return nullptr;
  };
  while (Wait* wait = next_wait()) {
    const Cause why = wait->scope().stopped;
    executor_->fail(*wait, Error(ErrorKind::interrupted, why->message()));
  }
}

void Cell::drop_running() {
  while (!running_.empty()) {
    std::unique_ptr<Message> message(&running_.front());
    message->unlink();
    --running_count_;
    message->abandon();
    if (message->asker == nullptr) continue;
    message->fail(undeliverable(message->method().name, name_, *stop_cause_));
    const Handle<Asker> asker = message->asker;
    asker->answer(std::move(message));
  }
}

// Goes on where a stop stands: handlers, then children from the youngest, then on_stop, then the end.
void Cell::continue_stop() {
  if (dead() || !running_.empty() || stop_last_child()) return;
  if (started_ && !failed_ && !stop_hook_done_) {
    stop_hook_done_ = true;
    static constexpr MethodInfo kOnStop{"on_stop", kLocalMethod};
    run_hook(&Actor::on_stop, kOnStop);
    if (state() == State::dead || !running_.empty()) return;
  }
  die();
}

bool Cell::stop_last_child() {
  if (family_ == nullptr) return false;
  auto& children = family_->children;
  while (!children.empty() && children.back().cell == nullptr) children.pop_back();
  if (children.empty()) return false;
  children.back().cell->request_stop(stop_cause_);
  return true;
}

void Cell::watch_other(const Handle<Endpoint>& whom, std::function<void(const Down&)> told) {
  const uint64_t number = ++family().watches;
  family_->watching.emplace_back(number, whom);
  whom->watch(executor_, this, [self = Handle<Cell>(this), number, told = std::move(told)](const Down& down) {
    if (self->family_ == nullptr) return;
    if (std::erase_if(self->family_->watching, [&](const auto& watch) { return watch.first == number; }) > 0)
      told(down);
  });
}

void Cell::unwatch_other(const Handle<Endpoint>& whom) {
  if (family_ == nullptr) return;
  if (std::erase_if(family_->watching, [&](const auto& watch) { return watch.second == whom; }) > 0)
    whom->unwatch(this);
}

void Cell::tell_watchers() {
  if (family_ == nullptr) return;
  const Down down{node(), id_, name_, stop_cause_};
  for (const Watcher& watcher : std::exchange(family_->watchers, {})) watcher.told(down);
}

void Cell::add_watcher(const void* who, std::function<void(const Down&)> told) {
  if (dead()) return told({node(), id_, name_, cause()});
  family().watchers.push_back({who, std::move(told)});
}

void Cell::remove_watcher(const void* who) {
  if (family_ != nullptr) std::erase_if(family_->watchers, [&](const Watcher& watcher) { return watcher.who == who; });
}

void Cell::die() {
  cause_ = stop_cause_;
  state_.store(State::dead, std::memory_order_release);
  const auto actor = std::move(actor_);
  tell_watchers();
  if (family_ != nullptr) {
    for (const auto& [number, whom] : family_->watching) whom->unwatch(this);
  }
  family_.reset();
  if (parent_ != nullptr) {
    parent_->executor_->loop().post(
        [parent = Handle<Cell>(parent_), self = Handle<Cell>(this)] { parent->child_ended(*self); });
  }
  if (Node* node = executor_->node()) node->ended(*this);
}

Handle<Cell> Cell::spawn_child(SpawnOptions options, std::unique_ptr<Actor> actor, ProtocolTable protocol,
                               ActorFactory again) {
  TROUPE_CHECK(state() < State::stopping, "{} is stopping and starts no children", name_);
  TROUPE_CHECK(executor_->node() != nullptr, "the node has gone");
  const auto& supervision = family().supervision;
  TROUPE_CHECK(again || supervision.strategy == Strategy::escalate || supervision.strategy == Strategy::ignore,
               "{} is to be started again when it fails: its arguments must be copyable", options.name);
  TROUPE_CHECK(child(options.name) == nullptr, "{} has a child of the name {} already", name_, options.name);
  if (options.loop < 0) options.loop = executor_->index();
  Handle<Cell> cell = executor_->node()->start_cell(options, this, std::move(actor), protocol);
  TROUPE_CHECK(cell != nullptr, "the node stops and starts no actors: {}", options.name);
  family_->children.push_back({cell, std::move(options), protocol, std::move(again)});
  return cell;
}

Handle<Cell> Cell::child(std::string_view name) const {
  if (family_ == nullptr) return nullptr;
  for (const Child& child : family_->children) {
    if (child.options.name == name && child.cell != nullptr) return child.cell;
  }
  return nullptr;
}

Handle<Cell> Cell::youngest() const {
  if (family_ == nullptr) return nullptr;
  for (auto child = family_->children.rbegin(); child != family_->children.rend(); ++child) {
    if (child->cell != nullptr) return child->cell;
  }
  return nullptr;
}

void Cell::child_ended(Cell& ended) {
  if (dead() || family_ == nullptr) return;
  auto& children = family_->children;
  const auto child = std::find_if(children.begin(), children.end(), [&](const Child& c) { return c.cell == &ended; });
  if (child == children.end()) return;
  const Strategy strategy = family_->supervision.strategy;
  if (state() == State::stopping) {
    children.erase(child);
    return ended.has_failed() && strategy == Strategy::escalate ? fail(ended.cause()) : continue_stop();
  }
  if (family_->restarting_all != nullptr) {
    child->cell = nullptr;
    return restart_all();
  }
  if (!ended.has_failed() || strategy == Strategy::ignore || strategy == Strategy::escalate) {
    const Cause cause = ended.cause();
    const bool fails = ended.has_failed() && strategy == Strategy::escalate;
    children.erase(child);
    if (fails) fail(cause);
    return;
  }
  child->cell = nullptr;
  child_failed(ended.cause());
}

// REQUIRES: one_for_one or one_for_all; the children to start have no cell.
void Cell::child_failed(const Cause& cause) {
  if (executor_->node()->stopping()) return;  // this actor's turn to stop will come
  if (!may_restart(cause)) return;
  if (family_->supervision.strategy == Strategy::one_for_all) {
    family_->restarting_all = cause;
    return restart_all();
  }
  for (size_t i = 0; family_ != nullptr && i < family_->children.size(); ++i) {
    if (family_->children[i].cell == nullptr) restart(family_->children[i]);
  }
}

bool Cell::may_restart(const Cause& cause) {
  auto& restarts = family_->restarts;
  const Supervision supervision = family_->supervision;
  const Time time = executor_->now();
  while (!restarts.empty() && deadline_after(restarts.front().first, supervision.window) < time) restarts.pop_front();
  restarts.emplace_back(time, cause);
  if (static_cast<int64_t>(restarts.size()) <= supervision.max_restarts) return true;
  const Cause first = restarts.front().second;
  fail(exit(first->kind, fmt::format("more than {} restarts within {:g} s; first, {}", supervision.max_restarts,
                                     std::chrono::duration<double>(supervision.window).count(), first->message())));
  return false;
}

// Does nothing where the node stops.
void Cell::restart(Child& child) {
  try {
    child.cell = executor_->node()->start_cell(child.options, this, child.factory(), child.protocol);
  } catch (const std::exception& e) {
    const std::string path = name_ + "/" + child.options.name;
    child_failed(std::make_shared<const Exit>(
        Exit{Exit::Kind::failed, path, executor_->node()->where(), fmt::format("in its constructor: {}", e.what())}));
  }
}

// Stops the other children, the youngest first; when none lives, starts all in their order.
void Cell::restart_all() {
  for (auto child = family_->children.rbegin(); child != family_->children.rend(); ++child) {
    if (child->cell != nullptr) return child->cell->request_stop(family_->restarting_all);
  }
  family_->restarting_all = nullptr;
  if (executor_->node()->stopping()) return;
  for (size_t i = 0; family_ != nullptr && family_->restarting_all == nullptr && i < family_->children.size(); ++i) {
    if (family_->children[i].cell == nullptr) restart(family_->children[i]);
  }
}

}  // namespace troupe::actor
