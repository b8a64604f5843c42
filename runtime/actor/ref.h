// Ref<T> sends to an actor of type T, on this node or another:
//
//   Result<RunReport> report = co_await head.ask<&Head::run>(plan, 60s);
//   Status sent = co_await head.tell<&Head::note>(line);
//
// What holds for every message:
// - Two messages from one actor (or thread) to another arrive in the order they were sent, in the same lane;
//   messages of different senders in any order. System messages have a lane of their own, which goes first.
// - Each arrives at most once. An answered ask was handled; after an error it was handled at most once.
// - A mailbox is bounded: tell waits for room, try_tell refuses. Asks are bounded by those who wait for them, and
//   messages of other nodes by a window of each link, in number and bytes (remote_actor.h).
// - Every ask has a deadline, never later than that of the handler which asks; the one asked inherits it. When the
//   asker gives up, or is told to stop, the one asked is told to stop too.
// - What cannot be delivered answers with the first cause: who died, where, why.
// - A local message is moved, never copied nor encoded. So a mailbox is bounded in number and not in bytes: a message
//   to an actor of the same node takes no memory that its sender had not taken already. Whoever allocates in order to
//   send bounds that by asking, which waits for an answer, instead of telling.
#pragma once
#include <chrono>
#include <utility>

#include "runtime/actor/call.h"
#include "runtime/actor/endpoint.h"
#include "runtime/actor/scope.h"

namespace troupe::actor {

// The half of an ask that does not depend on its type.
class AskBase : public Wait {
 public:
  AskBase(Endpoint* target, std::unique_ptr<Message> message, Time timeout)
      : to_(target), message_(std::move(message)), timeout_(timeout) {}
  ~AskBase() override;
  void fail(const Error& error) override;
  Error late() const override;
  std::string describe() const override;
  const Endpoint* awaited() const override { return to_; }

 protected:
  // False: it has failed at once.
  bool send(Scope& scope, std::coroutine_handle<> waiter);
  virtual void set_error(Error error) = 0;

 private:
  void forget();

  Endpoint* to_;                      // the Ref's, which lives until the ask is sent
  Handle<Endpoint> target_;           // from then on
  std::unique_ptr<Message> message_;  // until then
  const MethodInfo* method_ = &message_->method();
  Time timeout_;
};

template <class R>
class [[nodiscard]] Ask final : public AskBase {
 public:
  using AskBase::AskBase;

  bool await_ready() { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> waiter) {
    return send(*waiter.promise().scope, waiter);
  }
  Result<R> await_resume() { return std::move(*result_); }

  void accept(Message& answer) override { result_ = take_reply<R>(answer); }

 private:
  void set_error(Error error) override { result_.emplace(std::move(error)); }
  std::optional<Result<R>> result_;
};

// A tell that found no room, waiting for it.
class RoomWait final : public Wait {
 public:
  RoomWait(Endpoint& target, const MethodInfo& method, std::optional<Error>& error)
      : target_(&target), method_(method), error_(error) {}
  ~RoomWait() override;
  Sent send(std::unique_ptr<Message>& message, Scope& scope, std::coroutine_handle<> waiter);

  void accept(Message& answer) override;
  void fail(const Error& error) override;
  Error late() const override;
  std::string describe() const override;
  const Endpoint* awaited() const override { return target_.get(); }

 private:
  Handle<Endpoint> target_;
  const MethodInfo& method_;
  std::optional<Error>& error_;
};

// Done at once where there is room; waits otherwise, for as long as the handler has, or Node's tell_deadline.
class [[nodiscard]] Tell {
 public:
  Tell(Endpoint* target, std::unique_ptr<Message> message) : to_(target), message_(std::move(message)) {}
  Tell(const Tell&) = delete;
  Tell& operator=(const Tell&) = delete;

  bool await_ready() { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> waiter) {
    return send(*waiter.promise().scope, waiter);
  }
  Status await_resume() {
    if (!error_) [[likely]]
      return {};
    return std::move(*error_);
  }

 private:
  bool send(Scope& scope, std::coroutine_handle<> waiter);
  [[gnu::noinline]] bool send_elsewhere(Scope& scope, std::coroutine_handle<> waiter);

  Endpoint* to_;  // the Ref's
  std::unique_ptr<Message> message_;
  std::optional<Error> error_;
  std::optional<RoomWait> wait_;
};

// Sends an ask from a plain thread and waits there. The error says why there is no answer.
Result<std::unique_ptr<Message>> ask_and_wait(Endpoint& endpoint, std::unique_ptr<Message> message, Time timeout);
Status send_now(Endpoint& endpoint, std::unique_ptr<Message> message);
void stop_now(Endpoint& endpoint, std::string why);

template <class T>
class Ref {
 public:
  Ref() = default;  // refers to nobody
  explicit Ref(Handle<Endpoint> endpoint) : endpoint_(std::move(endpoint)) {}

  explicit operator bool() const { return endpoint_ != nullptr; }
  bool operator==(const Ref& other) const { return endpoint_ == other.endpoint_; }
  const std::string& name() const { return endpoint_->name(); }
  const Handle<Endpoint>& endpoint() const { return endpoint_; }

  // What names the actor in a message to another node.
  Address address() const { return {endpoint_->node(), endpoint_->id(), endpoint_->name()}; }

  // ask<&T::method>(arguments…, deadline): the answer, or why there is none. Await it in a handler.
  template <auto M, class... A>
  Ask<typename Traits<M>::Answer> ask(A&&... arguments_and_deadline) const {
    constexpr size_t kArguments = std::tuple_size_v<typename Traits<M>::Arguments>;
    static_assert(sizeof...(A) == kArguments + 1, "ask<&T::method>(arguments…, deadline)");
    auto all = std::forward_as_tuple(std::forward<A>(arguments_and_deadline)...);
    return [&]<size_t... I>(std::index_sequence<I...>) {
      return Ask<typename Traits<M>::Answer>(endpoint_.get(), message<M>(std::get<I>(std::move(all))...),
                                             std::chrono::duration_cast<Time>(std::get<kArguments>(all)));
    }(std::make_index_sequence<kArguments>());
  }
  // tell<&T::method>(arguments…): in the mailbox, or why not. Await it in a handler.
  template <auto M, class... A>
  Tell tell(A&&... arguments) const {
    return Tell(endpoint_.get(), message<M>(std::forward<A>(arguments)...));
  }
  // Never waits. Any thread.
  template <auto M, class... A>
  Status try_tell(A&&... arguments) const {
    return send_now(*endpoint_, message<M>(std::forward<A>(arguments)...));
  }
  // As ask, blocking the calling thread, which is no loop's: the launcher, a test, a trainer's own loop.
  template <auto M, class... A>
  Result<typename Traits<M>::Answer> ask_blocking(A&&... arguments_and_deadline) const {
    using Answer = typename Traits<M>::Answer;
    constexpr size_t kArguments = std::tuple_size_v<typename Traits<M>::Arguments>;
    static_assert(sizeof...(A) == kArguments + 1, "ask_blocking<&T::method>(arguments…, deadline)");
    auto all = std::forward_as_tuple(std::forward<A>(arguments_and_deadline)...);
    return [&]<size_t... I>(std::index_sequence<I...>) -> Result<Answer> {
      auto answered = TROUPE_TRY(ask_and_wait(*endpoint_, message<M>(std::get<I>(std::move(all))...),
                                              std::chrono::duration_cast<Time>(std::get<kArguments>(all))));
      return take_reply<Answer>(*answered);
    }(std::make_index_sequence<kArguments>());
  }

  // Asks it to stop; watch it, or join it as its parent, to know when it has.
  void stop(std::string why) const { stop_now(*endpoint_, std::move(why)); }

  template <auto M, class... A>
  static std::unique_ptr<Message> message(A&&... arguments) {
    static_assert(std::is_base_of_v<typename Traits<M>::Actor, T>, "not a method of this actor");
    static_assert(std::is_constructible_v<typename Traits<M>::Arguments, A&&...> || sizeof...(A) == 0,
                  "the method takes other arguments");
    return std::make_unique<Call<M>>(std::in_place, std::forward<A>(arguments)...);
  }

 private:
  Handle<Endpoint> endpoint_;
};

}  // namespace troupe::actor
