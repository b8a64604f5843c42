// One loop's part of a node: the waits of the actors that live on it, by number and by deadline, and what runs at
// the moment. All of it belongs to the loop's thread, but for what says otherwise.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "runtime/actor/endpoint.h"
#include "runtime/actor/event_loop.h"
#include "runtime/actor/methods.h"
#include "runtime/actor/scope.h"
#include "runtime/base/trace.h"

namespace troupe::actor {

class Node;

class Executor final : public Asker {
 public:
  Executor(Node& node, EventLoop& loop, int index, TraceSink* sink)
      : trace(sink), node_(&node), loop_(loop), index_(index) {}
  ~Executor() override;

  EventLoop& loop() const { return loop_; }
  Time now() const { return loop_.clock().now(); }
  int index() const { return index_; }
  // Null once the node has gone.
  Node* node() const { return node_; }

  // Any thread.
  void answer(std::unique_ptr<Message> answered) override;
  // Hands an answer to the wait that it names; nothing where that waits no more.
  void deliver(std::unique_ptr<Message> answer) override;
  void deliver(Message& answer);
  // Ends a wait, and lets its coroutine go on.
  void fail(Wait& wait, const Error& error);

  void add(Wait& wait);
  void remove(Wait& wait);

  // Nothing is delivered any more; timers end.
  void close();

  TraceSink* const trace;  // null: nobody wants to know
  int64_t trace_lane() const { return kLoopLane + index_; }
  // The trace of a message that one of `of` causes, for TraceSpan::trace; of 0: that nothing has caused. Tells the sink
  // of its sending, if asked to. REQUIRES: there is a sink.
  uint64_t trace_message(uint64_t of, bool sent);

  // What runs on this thread, for a report made by another one; null: nothing.
  std::atomic<const MethodInfo*> running_method{nullptr};
  std::atomic<ActorId> running_actor{0};

 private:
  struct ByDeadline {
    bool operator()(const Wait& a, const Wait& b) const {
      return a.deadline_ != b.deadline_ ? a.deadline_ < b.deadline_ : a.order_ < b.order_;
    }
  };
  struct Slot {
    Wait* wait = nullptr;
    uint32_t use = 0;
    uint32_t next_free = 0;
  };
  Wait* find(uint64_t number) const;
  void resume(Wait& wait);
  void arm();
  void expire();

  Node* node_;
  EventLoop& loop_;
  const int index_;
  std::vector<Slot> slots_;
  uint32_t free_ = kNone;
  static constexpr uint32_t kNone = ~uint32_t{0};
  uint64_t order_ = 0;
  uint64_t traced_ = 0;  // messages
  intrusive::multiset<Wait,
                      intrusive::base_hook<intrusive::set_base_hook<AutoUnlink, intrusive::tag<OfDeadline>,
                                                                    intrusive::optimize_size<true>>>,
                      intrusive::compare<ByDeadline>, intrusive::constant_time_size<false>>
      by_deadline_;
  Timer timer_;
  Time armed_ = kNever;
};

}  // namespace troupe::actor
