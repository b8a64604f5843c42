// What the runtime keeps of one actor: mailbox, handlers under way, family, watchers, counters. The actor object
// itself is user code and knows nothing of this. Everything belongs to the thread of its loop, but for what
// Endpoint promises to any thread.
//
// Life: starting (on_start runs; messages wait) → running → stopping (handlers are told, children are joined in
// reverse order, on_stop runs) → dead. A failure skips what the actor itself would do, not its children.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <typeinfo>
#include <vector>

#include "runtime/actor/actor.h"
#include "runtime/actor/executor.h"
#include "runtime/actor/job_queue.h"
#include "runtime/actor/message.h"
#include "runtime/actor/options.h"
#include "runtime/actor/protocol.h"

namespace troupe::actor {

using ActorFactory = std::function<std::unique_ptr<Actor>()>;

struct ActorCounters {
  uint64_t messages = 0;  // handlers begun
  uint32_t queued = 0, most_queued = 0;
  std::chrono::nanoseconds busy{0};  // on the thread, from samples
};

class Cell final : public Endpoint, public Job {
 public:
  enum class State : uint8_t { starting, running, stopping, dead };

  // Complete, so that others may know it before it has started.
  Cell(Handle<Executor> executor, ActorId id, std::string name, const SpawnOptions& options, Cell* parent,
       std::unique_ptr<Actor> actor, ProtocolTable protocol);
  ~Cell() override;

  // Endpoint.
  Sent send(std::unique_ptr<Message>& message, const Executor* from) override;
  Sent send_when_room(std::unique_ptr<Message>& message, const Executor* from) override;
  void forget(const Asker& asker, uint64_t ask, const Executor* from) override;
  Cause cause() const override;
  void request_stop(Cause why) override;
  uint64_t node() const override;
  void watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) override;
  void unwatch(const void* who) override;
  // A dead one may have outlived its loop.
  const Executor* executor_here() const override {
    return !dead() && executor_->loop().runs_here() ? executor_.get() : nullptr;
  }
  Time now() const override { return dead() ? Time(0) : executor_->now(); }

  void run() noexcept override;  // handles what is in the mailbox
  void drop() noexcept override;

  Executor& executor() const { return *executor_; }
  State state() const { return state_.load(std::memory_order_acquire); }
  bool dead() const { return state() == State::dead; }

  // Called once, before anyone else can ask anything of it.
  void start();
  void arrive(std::unique_ptr<Message> message) override;
  void refuse(std::unique_ptr<Message> message);  // answers it with the cause of death
  // A tell from its own thread, which most often finds room: in the mailbox. False: send() has to look closer.
  bool take(Message& message, const Executor& from) {
    if (&from != executor_.get() || own_ >= capacity_ || !waiting_.empty()) return false;
    if (state_.load(std::memory_order_relaxed) >= State::stopping) return false;
    ++own_;
    normal_.push(message);
    count_in();
    return true;
  }
  // A handler that is in the list of those that run has ended: with a reply for who asked; without, and its message is
  // gone. And one that throws, in the list or not; null: there is no message.
  void answered(Message& message);
  void ended();
  void failed(Message* message, const MethodInfo& method, const std::exception_ptr& exception);
  // Lets a coroutine of it go on.
  void resume(Scope& scope, std::coroutine_handle<> coroutine);

  // Loop thread only. `again`: empty where the child cannot be started again.
  Handle<Cell> spawn_child(SpawnOptions options, std::unique_ptr<Actor> actor, ProtocolTable protocol,
                           ActorFactory again);
  Handle<Cell> child(std::string_view name) const;
  Handle<Cell> youngest() const;  // of its children; null: none
  void supervise(const Supervision& supervision) { family().supervision = supervision; }
  const Supervision& supervision() { return family().supervision; }
  // Calls `told` on this loop once it has ended; at once where it has.
  void add_watcher(const void* who, std::function<void(const Down&)> told);
  void remove_watcher(const void* who);
  // Watches for as long as this one lives; `told` runs on this loop.
  void watch_other(const Handle<Endpoint>& whom, std::function<void(const Down&)> told);
  void unwatch_other(const Handle<Endpoint>& whom);
  void stop(Cause why);  // begins to, as asked
  // Ends it where it stands, without its children: for a node that goes away with all of them.
  void kill(const Cause& why);
  void orphan();  // it stays in the loop's queue though its node goes away

  ActorCounters counters() const;
  // f(message) for every handler that has begun and not ended.
  template <class F>
  void for_each_running(F f) const {
    for (const Message& message : running_) f(message);
  }
  ProtocolTable protocol() const { return protocol_; }  // what other nodes may ask
  const std::type_info& type() const { return type_; }
  bool has_failed() const { return failed_; }   // it ended, or is ending, by failure
  bool stop_failed() const { return spoilt_; }  // it was asked to stop, and failed on the way

 private:
  class Hook;
  struct Child {
    Handle<Cell> cell;
    SpawnOptions options;
    ProtocolTable protocol;
    ActorFactory factory;  // empty: cannot be started again
  };
  struct Watcher {
    const void* who;
    std::function<void(const Down&)> told;
  };
  // What few actors have.
  struct Family {
    Supervision supervision;
    std::vector<Child> children;
    std::vector<Watcher> watchers;
    std::vector<std::pair<uint64_t, Handle<Endpoint>>> watching;  // by number
    uint64_t watches = 0;
    std::deque<std::pair<Time, Cause>> restarts;
    Cause restarting_all;  // one_for_all: the others are being stopped
  };
  Family& family();

  // Mailbox (cell.cpp).
  void accept(Message& message);
  void enqueue(Message& message);
  void count_in() {
    most_queued_ = std::max(++queued_, most_queued_);
    schedule();
  }
  void schedule() {
    if (std::exchange(scheduled_, true)) return;
    executor_->loop().post_here(*this);
  }
  Message* next();
  [[gnu::noinline]] void made_room(Message& message);
  [[gnu::noinline]] void admit();
  [[gnu::noinline]] bool is_awake();
  void handle(Message& message);
  [[gnu::noinline]] bool begin_timed(Message& message);
  [[gnu::noinline]] void enlist(Message& message);
  template <class Piece>
  void traced(const Scope& scope, bool arrived, Piece piece);
  void forget_here(const Asker& asker, uint64_t ask);
  Cause exit(Exit::Kind kind, std::string why) const;

  // Life and family (cell_life.cpp).
  void run_hook(Task<void> (Actor::*hook)(), const MethodInfo& method);
  void fail(Cause cause);
  void refuse_all();
  void cancel_running();
  void drop_running();
  void continue_stop();
  bool stop_last_child();
  void tell_watchers();
  void die();
  void child_ended(Cell& ended);
  void child_failed(const Cause& cause);
  bool may_restart(const Cause& cause);
  void restart(Child& child);
  void restart_all();

  Handle<Executor> executor_;
  std::unique_ptr<Actor> actor_;
  const ProtocolTable protocol_;
  const std::type_info& type_;  // of the actor
  Cell* parent_;                // outlives its children
  std::unique_ptr<Family> family_;
  JobQueue priority_, normal_, waiting_;  // waiting: for room
  // Handlers that wait for something, and those that have somebody to answer.
  RunningList running_;
  Cause stop_cause_;  // set from stopping on
  Cause cause_;       // set once, before state_ becomes dead
  uint64_t handled_ = 0;
  std::chrono::nanoseconds busy_{0};
  uint32_t own_ = 0, queued_ = 0, most_queued_ = 0;  // own: of its thread, counted against the capacity
  uint32_t running_count_ = 0;
  uint32_t until_timed_ = 1;
  const uint32_t capacity_;
  std::atomic<uint32_t> foreign_{0};  // of others, under way or waiting
  std::atomic<State> state_{State::starting};
  const bool reentrant_;
  bool scheduled_ = false;  // in the loop's queue, or run() is on the stack
  bool orphan_ = false;     // dead, and kept only by the loop's queue
  bool failed_ = false, spoilt_ = false, started_ = false, stop_hook_done_ = false;
};

}  // namespace troupe::actor
