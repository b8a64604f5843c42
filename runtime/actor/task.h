// Task<T>: a coroutine that starts when it is awaited and hands its result to whoever awaits it, by symmetric
// transfer: a chain of tasks uses no stack. It runs on the loop of the actor whose handler it belongs to, and is
// destroyed, with what it awaits, when that actor dies.
//
// Use clang++-19: g++ 12 miscompiles aggregates and lambdas as arguments of awaited calls.
#pragma once
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "runtime/actor/block_pool.h"
#include "runtime/base/check.h"
#include "runtime/base/result.h"

namespace troupe::actor {

class Scope;

// Told when the outermost task of a handler has ended. May destroy the task.
class Completion {
 public:
  virtual void completed() noexcept = 0;

 protected:
  ~Completion() = default;
};

// What every task's coroutine has, whatever it returns.
class PromiseBase {
 public:
  Scope* scope = nullptr;                // of the handler that it belongs to
  std::coroutine_handle<> continuation;  // who awaits it; null: outermost
  Completion* completion = nullptr;
  std::exception_ptr exception;

  std::suspend_always initial_suspend() noexcept { return {}; }
  auto final_suspend() noexcept {
    struct Awaiter {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<>) noexcept {
        if (promise.continuation) return promise.continuation;
        promise.completion->completed();
        return std::noop_coroutine();
      }
      void await_resume() noexcept {}
      PromiseBase& promise;
    };
    return Awaiter{*this};
  }
  void unhandled_exception() noexcept { exception = std::current_exception(); }

  static void* operator new(size_t size) { return allocate_block(size); }
  static void operator delete(void* block, size_t size) noexcept { free_block(block, size); }
};

template <class T>
class Promise;

// REQUIRES: awaited at most once, by a coroutine on the same loop.
template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;  // nothing to do; only hooks of Actor may return it
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() { destroy(); }

  explicit operator bool() const { return handle_ != nullptr; }

  class Awaiter {
   public:
    explicit Awaiter(Handle handle) : handle_(handle) {}
    bool await_ready() { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> parent) {
      handle_.promise().scope = parent.promise().scope;
      handle_.promise().continuation = parent;
      return handle_;
    }
    T await_resume() { return handle_.promise().take(); }

   private:
    Handle handle_;
  };
  Awaiter operator co_await() && {
    TROUPE_CHECK(handle_, "an empty task was awaited");
    return Awaiter(handle_);
  }

  // For those who run a handler.
  void start(Scope& scope, Completion& completion) {
    handle_.promise().scope = &scope;
    handle_.promise().completion = &completion;
    handle_.resume();
  }
  // REQUIRES: it has ended. Throws what it threw.
  T take() { return handle_.promise().take(); }
  bool failed() const { return handle_.promise().exception != nullptr; }
  // What it ended with; null: no exception.
  std::exception_ptr exception() const { return handle_.promise().exception; }

 private:
  void destroy() {
    if (handle_) std::exchange(handle_, nullptr).destroy();
  }
  Handle handle_ = nullptr;
};

template <class T>
class Promise : public PromiseBase {
 public:
  Task<T> get_return_object() { return Task<T>(std::coroutine_handle<Promise>::from_promise(*this)); }
  template <class U>
    requires std::convertible_to<U, T>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    if (exception) std::rethrow_exception(exception);
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  Task<void> get_return_object() { return Task<void>(std::coroutine_handle<Promise>::from_promise(*this)); }
  void return_void() {}
  void take() {
    if (exception) std::rethrow_exception(exception);
  }
};

// In a coroutine: auto x = TROUPE_CO_TRY(co_await f());  takes the value, or co_returns the error.
#define TROUPE_CO_TRY(expression)                                                \
  __extension__({                                                                \
    auto troupe_try_result = (expression);                                       \
    if (!troupe_try_result.ok()) co_return std::move(troupe_try_result).error(); \
    std::move(troupe_try_result).value();                                        \
  })

}  // namespace troupe::actor
