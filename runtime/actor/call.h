// The message that calls one method of one type of actor.
#pragma once
#include <optional>
#include <tuple>

#include "runtime/actor/actor.h"
#include "runtime/actor/message.h"
#include "runtime/actor/wire.h"

namespace troupe::actor {

// Ends of a handler, told to the cell that runs it (cell.h): with a reply for who asked; without; by throwing.
void handler_answered(Cell& cell, Message& message);
void handler_ended(Cell& cell);
void handler_failed(Cell& cell, Message& message, const std::exception_ptr& exception);

template <auto M>
class Call final : public Replying<typename Traits<M>::Answer> {
 public:
  using Answer = typename Traits<M>::Answer;
  using Arguments = typename Traits<M>::Arguments;

  template <class... A>
  explicit Call(std::in_place_t, A&&... arguments)
      : Replying<Answer>(kMethod<M>), arguments_(std::forward<A>(arguments)...) {}
  explicit Call(Arguments arguments) : Replying<Answer>(kMethod<M>), arguments_(std::move(arguments)) {}

  bool begin(Actor& actor, Cell& cell) override {
    auto& self = static_cast<typename Traits<M>::Actor&>(actor);
    const auto call = [&]() -> decltype(auto) {
      return std::apply([&](auto&... a) -> decltype(auto) { return (self.*M)(std::move(a)...); }, arguments_);
    };
    try {
      if constexpr (Traits<M>::is_task) {
        task_ = call();  // a coroutine runs nothing yet
        TROUPE_CHECK(task_, "the handler returned no task");
      } else {
        take(call);
      }
    } catch (...) {
      handler_failed(cell, *this, std::current_exception());
      return true;
    }
    if constexpr (Traits<M>::is_task) return this->start(task_);
    finish(cell);
    return true;
  }
  void completed() noexcept override {
    if constexpr (Traits<M>::is_task) {
      Cell& cell = *this->scope.cell;
      bool* const over = this->over();
      if (task_.failed()) [[unlikely]] {
        handler_failed(cell, *this, task_.exception());
      } else {
        take([this] { return task_.take(); });
        task_ = {};
        finish(cell);
      }
      if (over != nullptr) *over = true;
    }
  }
  void abandon() override {
    if constexpr (Traits<M>::is_task) task_ = {};
  }

 private:
  // What the handler returns is the reply, if somebody asked.
  template <class F>
  [[gnu::always_inline]] void take(F result) {
    if constexpr (std::is_void_v<decltype(result())>) {
      result();
      if (this->asker != nullptr) this->reply.emplace();
    } else if (this->asker != nullptr) {
      this->reply.emplace(result());
    } else {
      (void)result();
    }
  }
  [[gnu::always_inline]] void finish(Cell& cell) {
    if (this->asker != nullptr) return handler_answered(cell, *this);
    if (!this->bare()) [[unlikely]]
      return end(cell);
    arguments_.~Arguments();
    Message::operator delete(this, sizeof(*this));
  }
  [[gnu::noinline]] void end(Cell& cell) {
    const bool was_listed = this->is_listed();
    delete this;
    if (was_listed) handler_ended(cell);
  }
  net::Body encode_call() const override { return encode_arguments(arguments_); }
  struct NoTask {};
  using TaskType = std::conditional_t<Traits<M>::is_task, typename Traits<M>::Return, NoTask>;
  Arguments arguments_;
  [[no_unique_address]] TaskType task_;
};

}  // namespace troupe::actor
