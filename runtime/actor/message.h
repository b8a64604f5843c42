// One message, from the moment it is sent until its answer has arrived: it carries the arguments to the actor, is
// the scope of the handler that runs on them, and then carries the reply back. It moves between threads and, over
// inproc links, between nodes without being encoded.
#pragma once
#include <memory>

#include "runtime/actor/endpoint.h"
#include "runtime/actor/event_loop.h"
#include "runtime/actor/methods.h"
#include "runtime/actor/scope.h"
#include "runtime/actor/wire.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

class Actor;
class Message;
class SharedArguments;

// Of one cell.
using RunningList = intrusive::list<Message, intrusive::constant_time_size<false>>;

class Message : public Job, public net::Payload, public Completion, public intrusive::list_base_hook<AutoUnlink> {
 public:
  // Runs the handler, at least to where it first waits. True: it has ended, and the message is gone, or back to who
  // asked.
  virtual bool begin(Actor& actor, Cell& cell) = 0;
  const MethodInfo& method() const { return *scope.method; }
  // Makes this the reply.
  virtual void fail(const Error& error) = 0;
  // The reply as it came over a link; null: it is a Replying<R>.
  virtual net::Parcel* parcel() { return nullptr; }
  // Why it was answered with an error; null: it was not.
  virtual const Error* error() const { return nullptr; }
  // What it shares with messages to other actors (bundle.h); null: nothing, it is the actor's own.
  virtual std::shared_ptr<const SharedArguments> shared() const { return nullptr; }
  // REQUIRES: shared(). The same with arguments of its own.
  virtual std::unique_ptr<Message> unshared() const { return nullptr; }
  // Destroys the handler's coroutine where it stands.
  virtual void abandon() {}

  void completed() noexcept override {}

  // Where it goes next: into the mailbox of `target`, or to `asker` with the reply.
  void run() noexcept override;
  void drop() noexcept override { delete this; }

  static void* operator new(size_t size) { return allocate_block(size); }
  static void operator delete(void* block, size_t size) noexcept { free_block(block, size); }

  Scope scope;
  Handle<Asker> asker;      // null: a tell
  uint64_t ask = 0;         // the asker's number for it
  Handle<Endpoint> target;  // while it is under way from another thread
  // Who is told, as `room`, once it has found room where it waits for that, or else once it has left the mailbox; then
  // null.
  Handle<Asker> sender;
  uint64_t room = 0;
  bool priority = false;
  bool foreign = false;   // counted by the mailbox as sent by another thread
  bool answered = false;  // on its way back
  bool waits = false;     // for room in the mailbox

  // Among the handlers of its cell that wait for something, or have somebody to answer.
  bool is_listed() const { return is_listed_; }
  void list_in(RunningList& list) {
    list.push_back(*this);
    is_listed_ = true;
  }

 protected:
  explicit Message(const MethodInfo& method) { scope.method = &method; }

  // For begin(). REQUIRES: completed() tells over().
  template <class T>
  bool start(Task<T>& task) {
    bool ended = false;
    ended_ = &ended;
    task.start(scope, *this);
    if (!ended) ended_ = nullptr;
    return ended;
  }
  // Whom completed() tells, last, that begin() has nothing left to do; null: it has returned.
  bool* over() const { return ended_; }
  // When the handler has ended and is nobody's to answer: whether nothing is left that a destructor has to let go of.
  bool bare() const { return !is_listed_ && scope.stopped == nullptr; }

 private:
  bool is_listed_ = false;
  bool* ended_ = nullptr;
};

// A message whose reply is a Result<R>.
template <class R>
class Replying : public Message {
 public:
  explicit Replying(const MethodInfo& method) : Message(method) {}
  void fail(const Error& error) override { reply.emplace(error); }
  const Error* error() const override { return reply && !reply->ok() ? &reply->error() : nullptr; }
  // Of the arguments, or of the reply once it is answered.
  net::Body encode() const override {
    if (!answered) return encode_call();
    if constexpr (CanTravel<R> && !std::is_void_v<R>) return Wire<R>::encode(reply->value());
    return {};
  }
  std::optional<Result<R>> reply;

 protected:
  virtual net::Body encode_call() const { return {}; }
};

// Says to what a wait of that number waits for that it has come.
template <class R>
class Notice final : public Replying<R> {
 public:
  Notice(uint64_t number, Result<R> result) : Replying<R>(kInfo) {
    this->ask = number;
    this->reply.emplace(std::move(result));
  }
  bool begin(Actor&, Cell&) override { return true; }

 private:
  static constexpr MethodInfo kInfo{"notice", kLocalMethod};
};

// Tells the sender that the message has found room, or left the mailbox; or why it will not.
void notice_room(Message& message, Result<void> result);

// What an ask for an R was answered with.
template <class R>
Result<R> take_reply(Message& answered) {
  net::Parcel* parcel = answered.parcel();
  if (parcel == nullptr) return std::move(*static_cast<Replying<R>&>(answered).reply);
  if (parcel->header.kind == wire::FrameKind::error) return decode_error(parcel->body);
  if constexpr (std::is_void_v<R>) return {};
  else if constexpr (CanTravel<R>) return decode_value<R>(parcel->body);
  else return failed("the answer is of a type that cannot travel between nodes");
}

}  // namespace troupe::actor
