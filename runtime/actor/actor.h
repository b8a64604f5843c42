// The base of every actor: a class whose public methods are its handlers. A handler is a coroutine (Task<R>) that
// may wait, or a plain function that does not; it runs on the thread of the actor's loop, one at a time unless the
// actor was spawned reentrant. It never blocks. A handler that throws is the actor's death, with the reason.
//
//   class Head : public Actor {
//    public:
//     Task<Result<RunReport>> run(RunPlan plan);
//     void on(Down rank);
//     using Protocol = Methods<&Head::run>;  // what other nodes may call
//   };
#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "runtime/actor/endpoint.h"
#include "runtime/actor/event_loop.h"
#include "runtime/actor/methods.h"
#include "runtime/actor/options.h"
#include "runtime/actor/task.h"

namespace troupe::actor {

class Cell;
class Join;
class Node;
class Sleep;
template <class T>
class Ref;

class Actor {
 public:
  Actor() = default;
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;
  virtual ~Actor() = default;

  // Runs before the first message. The actor is spawned before it has ended: who must know, asks.
  virtual Task<void> on_start() { return {}; }
  // Runs when the actor was asked to stop, after its handlers and children have ended; not after a failure.
  virtual Task<void> on_stop() { return {}; }

 protected:
  // What follows may be called from on_start() on, on the actor's thread.

  // self<Head>()
  template <class T>
  Ref<T> self() const;
  const std::string& name() const;
  Node& node() const;
  std::chrono::nanoseconds now() const;

  // Starts a child: it is stopped before this actor ends, and its failure is this actor's, or handled as the
  // supervision says; then T's arguments must be copyable, for the next start. Throws what T's constructor throws.
  template <class T, class... A>
  Ref<T> spawn(SpawnOptions options, A&&... arguments);
  // The living child of that name (a restarted one has another Ref than before); none: an empty Ref.
  template <class T>
  Ref<T> child(std::string_view child_name) const;
  void supervise(const Supervision& supervision);
  // When that actor ends, or its node is lost, M(Down) is called once, ahead of other messages; at once if it has
  // ended already.
  template <auto M, class T>
  void watch(const Ref<T>& whom);
  template <class T>
  void unwatch(const Ref<T>& whom);

  // Ends this actor once its handlers have ended.
  void stop(std::string why = "done");
  // co_await stop_and_join(child, "done", 5s): how it ended, or an error that names what keeps it.
  template <class T>
  Join stop_and_join(const Ref<T>& whom, std::string why, std::chrono::nanoseconds timeout);
  // co_await sleep(1s): an error where the handler is told to stop, or has no time left.
  Sleep sleep(std::chrono::nanoseconds duration);
  // Calls M(arguments…) on this actor after `delay`, as a message; cancelled by destroying the timer.
  template <auto M, class... A>
  Timer later(std::chrono::nanoseconds delay, A&&... arguments);

  // For the runtime's own parts.
  Cell& cell() const;

 private:
  friend class Cell;
  Cell* cell_ = nullptr;
};

}  // namespace troupe::actor
