// The message that calls one method of one type of actor.
#pragma once
#include <optional>
#include <tuple>

#include "runtime/actor/actor.h"
#include "runtime/actor/message.h"
#include "runtime/actor/wire.h"

namespace troupe::actor {

// Ends of a handler, told to the cell that runs it (cell.h): with a reply for who asked; without, when its message has
// gone; by throwing.
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

  void begin(Actor& actor, Cell& cell) override {
    auto& self = static_cast<typename Traits<M>::Actor&>(actor);
    const auto call = [&]() -> decltype(auto) {
      return std::apply([&](auto&... a) -> decltype(auto) { return (self.*M)(std::move(a)...); }, arguments_);
    };
    if constexpr (Traits<M>::is_task) {
      try {
        task_ = call();  // a coroutine runs nothing yet
        TROUPE_CHECK(task_, "the handler returned no task");
      } catch (...) {
        return handler_failed(cell, *this, std::current_exception());
      }
      task_.start(this->scope, *this);
    } else {
      try {
        if constexpr (std::is_void_v<typename Traits<M>::Return>) {
          call();
          this->reply.emplace();
        } else {
          this->reply.emplace(call());
        }
      } catch (...) {
        return handler_failed(cell, *this, std::current_exception());
      }
      finish(cell);
    }
  }
  void completed() noexcept override {
    Cell& cell = *this->scope.cell;
    if constexpr (Traits<M>::is_task) {
      if (task_.failed()) return handler_failed(cell, *this, task_.exception());
      if constexpr (std::is_void_v<decltype(task_.take())>) {
        this->reply.emplace();
      } else {
        this->reply.emplace(task_.take());
      }
      task_ = {};
    }
    finish(cell);
  }
  void abandon() override {
    if constexpr (Traits<M>::is_task) task_ = {};
  }

 private:
  void finish(Cell& cell) {
    if (this->asker != nullptr) return handler_answered(cell, *this);
    delete this;
    handler_ended(cell);
  }
  net::Body encode_call() const override { return encode_arguments(arguments_); }
  struct NoTask {};
  using TaskType = std::conditional_t<Traits<M>::is_task, typename Traits<M>::Return, NoTask>;
  Arguments arguments_;
  [[no_unique_address]] TaskType task_;
};

}  // namespace troupe::actor
