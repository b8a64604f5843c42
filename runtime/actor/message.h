// One message, from the moment it is sent until its answer has arrived: it carries the arguments to the actor, is
// the scope of the handler that runs on them, and then carries the reply back. It moves between threads and, over
// inproc links, between nodes without being encoded.
#pragma once
#include <memory>

#include "runtime/actor/endpoint.h"
#include "runtime/actor/event_loop.h"
#include "runtime/actor/methods.h"
#include "runtime/actor/scope.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

class Actor;

class Message : public Job, public net::Payload, public Completion, public intrusive::list_base_hook<AutoUnlink> {
 public:
  // Runs the handler, at least to where it first waits. Ends in Cell::finished() or Cell::failed(), perhaps before
  // it returns; then the message may be gone.
  virtual void begin(Actor& actor, Cell& cell) = 0;
  virtual const MethodInfo& method() const = 0;
  // Makes this the reply.
  virtual void fail(const Error& error) = 0;
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
  Handle<Endpoint> target;  // the Cell, while it is under way from another thread
  // Who is told, as `ask`, once it has found room; then null.
  Handle<Asker> sender;
  bool priority = false;
  bool foreign = false;   // counted by the mailbox as sent by another thread
  bool answered = false;  // on its way back
};

// A message whose reply is a Result<R>.
template <class R>
class Replying : public Message {
 public:
  void fail(const Error& error) override { reply.emplace(error); }
  std::optional<Result<R>> reply;
};

}  // namespace troupe::actor
