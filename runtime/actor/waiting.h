// What a handler can wait for besides answers: time, the end of another actor, several tasks at once, a value from a
// plain thread. And what an Actor does with Refs.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "runtime/actor/cell.h"
#include "runtime/actor/ref.h"

namespace troupe::actor {

// co_await sleep(1s). An error: the handler was told to stop, or its deadline came first.
class [[nodiscard]] Sleep final : public Wait {
 public:
  explicit Sleep(Time duration) : duration_(duration) {}
  bool await_ready() { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> waiter) {
    return start(*waiter.promise().scope, waiter);
  }
  Status await_resume() { return std::move(status_); }

  void fail(const Error& error) override;
  Error late() const override;
  std::string describe() const override { return "time to pass"; }

 private:
  bool start(Scope& scope, std::coroutine_handle<> waiter);
  Time duration_;
  bool whole_ = false;  // the handler's own deadline comes no earlier
  Status status_;
};

// co_await stop_and_join(ref, why, timeout): how it ended; or what keeps it.
class [[nodiscard]] Join final : public Wait {
 public:
  Join(Handle<Endpoint> target, std::string why, Time timeout)
      : target_(std::move(target)), why_(std::move(why)), timeout_(timeout) {}
  ~Join() override;
  bool await_ready() { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> waiter) {
    return start(*waiter.promise().scope, waiter);
  }
  Result<Cause> await_resume() { return std::move(*result_); }

  void accept(Message& answer) override;
  void fail(const Error& error) override;
  Error late() const override;
  std::string describe() const override;
  const Endpoint* awaited() const override { return target_.get(); }

 private:
  bool start(Scope& scope, std::coroutine_handle<> waiter);
  Handle<Endpoint> target_;
  std::string why_;
  Time timeout_;
  std::optional<Result<Cause>> result_;
};

inline Sleep Actor::sleep(std::chrono::nanoseconds duration) { return Sleep(duration); }

template <class T>
Join Actor::stop_and_join(const Ref<T>& whom, std::string why, std::chrono::nanoseconds timeout) {
  return Join(whom.endpoint(), std::move(why), timeout);
}

template <class T>
Ref<T> Actor::self() const {
  return Ref<T>(Handle<Endpoint>(&cell()));
}

template <class T, class... A>
Ref<T> Actor::spawn(SpawnOptions options, A&&... arguments) {
  if (options.name.empty()) options.name = type_name<T>();
  const Strategy strategy = cell().supervision().strategy;
  ActorFactory again;
  if (strategy == Strategy::one_for_one || strategy == Strategy::one_for_all) {
    if constexpr ((std::is_copy_constructible_v<std::decay_t<A>> && ...)) {
      again = [copies = std::tuple<std::decay_t<A>...>(arguments...)]() -> std::unique_ptr<Actor> {
        return std::apply([](const auto&... a) { return std::make_unique<T>(a...); }, copies);
      };
    }
  }
  auto actor = std::make_unique<T>(std::forward<A>(arguments)...);
  return Ref<T>(cell().spawn_child(std::move(options), std::move(actor), protocol_of<T>(), std::move(again)));
}

template <class T>
Ref<T> Actor::child(std::string_view child_name) const {
  return Ref<T>(cell().child(child_name));
}

template <auto M, class T>
void Actor::watch(const Ref<T>& whom) {
  using Watcher = typename Traits<M>::Actor;
  static_assert(std::is_same_v<typename Traits<M>::Arguments, std::tuple<Down>>, "a watcher's method takes a Down");
  const Handle<Cell> me(&cell());
  me->watch_other(whom.endpoint(), [me = me.get()](const Down& down) {
    std::unique_ptr<Message> message = Ref<Watcher>::template message<M>(down);
    message->priority = true;
    me->send(message, &me->executor());
  });
}

template <class T>
void Actor::unwatch(const Ref<T>& whom) {
  cell().unwatch_other(whom.endpoint());
}

template <auto M, class... A>
Timer Actor::later(std::chrono::nanoseconds delay, A&&... arguments) {
  const Handle<Cell> me(&cell());
  auto message = Ref<typename Traits<M>::Actor>::template message<M>(std::forward<A>(arguments)...);
  // std::function wants what can be copied.
  auto shared = std::make_shared<std::unique_ptr<Message>>(std::move(message));
  return me->executor().loop().after(delay, [me, shared] {
    (*shared)->priority = true;
    me->send(*shared, &me->executor());
  });
}

}  // namespace troupe::actor
