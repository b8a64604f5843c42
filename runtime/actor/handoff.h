// A value for a handler from somewhere that is no actor: a plain thread (a trainer's own loop), a callback.
//
//   Handoff<RunReport> report;
//   trainer_thread.post(plan, report.sender());
//   co_return co_await report.wait(deadline);
//
// And several tasks of one handler at once: co_await all(std::move(tasks)).
#pragma once
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/actor/cell.h"

namespace troupe::actor {

// Wakes the wait `number` of that executor.
void wake(Executor& executor, uint64_t number);

template <class T>
class Handoff {
  struct State : Counted {
    std::mutex mutex;
    std::optional<Result<T>> value;
    Handle<Executor> waiter;  // null: nobody waits
    uint64_t number = 0;

    void set(Result<T> result) {
      const std::lock_guard lock(mutex);
      if (value) return;
      value.emplace(std::move(result));
      if (waiter != nullptr) wake(*waiter, number);
    }
  };

 public:
  // Any thread. Copies are the same sender; when the last one goes without a word, the receiver gets an error.
  class Sender {
   public:
    explicit Sender(Handle<State> state) : end_(std::make_shared<End>(std::move(state))) {}
    // The first value stands. Never blocks.
    void set(Result<T> value) const { end_->state->set(std::move(value)); }

   private:
    struct End {
      explicit End(Handle<State> s) : state(std::move(s)) {}
      ~End() { state->set(failed("nobody is left to give the value")); }
      Handle<State> state;
    };
    std::shared_ptr<End> end_;
  };

  class [[nodiscard]] Waiting final : public Wait {
   public:
    Waiting(Handle<State> state, Time timeout) : state_(std::move(state)), timeout_(timeout) {}
    ~Waiting() override { leave(); }
    bool await_ready() { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
      Scope& scope = *waiter.promise().scope;
      const std::lock_guard lock(state_->mutex);
      if (state_->value) return false;
      if (const Exit* refusal = scope.refusal()) {
        error_.emplace(ErrorKind::interrupted, refusal->message());
        return false;
      }
      Executor& executor = scope.cell->executor();
      const Time now = executor.now();
      begin(scope, waiter, std::min(deadline_after(now, timeout_), scope.deadline), now);
      state_->waiter = &executor;
      state_->number = number();
      return true;
    }
    Result<T> await_resume() {
      leave();
      if (error_) return std::move(*error_);
      const std::lock_guard lock(state_->mutex);
      return std::move(*state_->value);
    }
    void fail(const Error& error) override { error_ = error; }
    Error late() const override { return failed("no {} within {}", describe(), seconds_text(deadline() - since())); }
    std::string describe() const override { return "value from outside"; }

   private:
    void leave() {
      const std::lock_guard lock(state_->mutex);
      state_->waiter = nullptr;
    }
    Handle<State> state_;
    Time timeout_;
    std::optional<Error> error_;
  };

  Handoff() = default;
  // REQUIRES: once.
  Sender sender() const { return Sender(state_); }
  // co_await it in a handler, once.
  Waiting wait(std::chrono::nanoseconds timeout) const { return Waiting(state_, timeout); }

 private:
  Handle<State> state_{new State};
};

// Runs the tasks side by side, as parts of the handler that awaits this; goes on when all have ended, with their
// results in order. What the first of them threw is thrown then.
template <class T>
class [[nodiscard]] All {
 public:
  explicit All(std::vector<Task<T>> tasks) : tasks_(std::move(tasks)) {}

  bool await_ready() { return tasks_.empty(); }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> waiter) {
    count_.left = tasks_.size() + 1;
    Scope& scope = *waiter.promise().scope;
    for (Task<T>& task : tasks_) task.start(scope, count_);
    if (--count_.left == 0) return false;
    count_.waiter = waiter;
    return true;
  }
  auto await_resume() {
    if constexpr (std::is_void_v<T>) {
      for (Task<T>& task : tasks_) task.take();
    } else {
      std::vector<T> results;
      results.reserve(tasks_.size());
      for (Task<T>& task : tasks_) results.push_back(task.take());
      return results;
    }
  }

 private:
  struct Count final : Completion {
    void completed() noexcept override {
      if (--left == 0) waiter.resume();
    }
    size_t left = 0;
    std::coroutine_handle<> waiter;
  };
  std::vector<Task<T>> tasks_;
  Count count_;
};

template <class T>
All<T> all(std::vector<Task<T>> tasks) {
  return All<T>(std::move(tasks));
}

}  // namespace troupe::actor
