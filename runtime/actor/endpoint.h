// What a Ref points to: an actor of this node (Cell) or of another (RemoteActor). Counted, because refs travel
// between threads; a dead actor leaves only its name and the cause of its death.
#pragma once
#include <atomic>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <functional>
#include <memory>
#include <string>

#include "runtime/actor/exit.h"

namespace troupe::actor {

class Message;
class Cell;

class Counted {
 public:
  Counted() = default;
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  // Whoever asks holds the only reference.
  bool unique() const { return references_.load(std::memory_order_acquire) == 1; }

 protected:
  virtual ~Counted() = default;

 private:
  friend void intrusive_ptr_add_ref(const Counted* counted) noexcept {
    counted->references_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void intrusive_ptr_release(const Counted* counted) noexcept {
    if (counted->references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete counted;
  }
  mutable std::atomic<uint32_t> references_{0};
};

template <class T>
using Handle = boost::intrusive_ptr<T>;

// Where answers go: the loop of the actor that asked, a link to its node, or a thread that waits.
class Asker : public Counted {
 public:
  // Takes the message, which holds its reply. Any thread.
  virtual void answer(std::unique_ptr<Message> answered) = 0;
  // The message has arrived on the asker's loop.
  virtual void deliver(std::unique_ptr<Message> answered) {}
};

class Executor;

// `unfit`: the actor is on another node, and the method not in its Protocol.
enum class Sent : uint8_t { yes, full, dead, unfit };

// Thread-safe, but for what says otherwise.
class Endpoint : public Counted {
 public:
  // Takes the message unless it is refused; then it is untouched. `from` is the executor whose thread this is, or
  // null. Messages that are asks, and those of the priority lane, are never refused for want of room.
  virtual Sent send(std::unique_ptr<Message>& message, const Executor* from) = 0;
  // As send(), but a message that finds no room waits for it, and the asker gets it back once it is inside.
  virtual Sent send_when_room(std::unique_ptr<Message>& message, const Executor* from) = 0;
  // A message that another thread sent has reached the endpoint's own.
  virtual void arrive(std::unique_ptr<Message> message) = 0;
  // The asker has given up: the question need not be answered any more.
  virtual void forget(const Asker& asker, uint64_t ask, const Executor* from) = 0;
  // REQUIRES: send() said dead.
  virtual Cause cause() const = 0;
  // Asks it to stop. Its end is told to those who watch.
  virtual void request_stop(Cause why) = 0;
  // `told` is called once, on `executor`, when it has ended or its node is lost; at once where it has. `who` is what
  // unwatch() names.
  virtual void watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) = 0;
  virtual void unwatch(const void* who) = 0;
  // Its executor where this is that one's thread; else null.
  virtual const Executor* executor_here() const = 0;
  // The clock that its deadlines are told in.
  virtual std::chrono::nanoseconds now() const = 0;

  virtual uint64_t node() const = 0;
  // The actor of this node; null: of another.
  Cell* cell() const { return cell_; }
  ActorId id() const { return id_; }
  const std::string& name() const { return name_; }

 protected:
  Endpoint(ActorId id, std::string name, Cell* cell) : id_(id), name_(std::move(name)), cell_(cell) {}

  ActorId id_;
  std::string name_;

 private:
  Cell* const cell_;
};

}  // namespace troupe::actor
