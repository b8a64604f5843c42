// An actor of another node, and the messages that wait for it here.
//
// Credits: of one actor's messages no more than a window are on their way or in its mailbox; as it begins to handle
// them, its node says so, and more follow. What waits, waits here and in order. So a slow actor holds a mailbox and a
// window of each link, and holds up nobody but those who talk to it. Answers need no credit.
#pragma once
#include <atomic>
#include <deque>

#include "runtime/actor/remote.h"

namespace troupe::actor {

class RemoteActor final : public Endpoint {
 public:
  // Of one link; the same on both sides. Bytes are those of bodies with buffers, which the last message may exceed.
  static constexpr int64_t kWindow = 256;
  static constexpr int64_t kWindowBytes = int64_t{64} << 20;

  RemoteActor(Handle<RemoteNode> node, ActorId id, std::string name)
      : Endpoint(id, std::move(name), nullptr), node_(std::move(node)) {}

  Sent send(std::unique_ptr<Message>& message, const Executor* from) override;
  Sent send_when_room(std::unique_ptr<Message>& message, const Executor* from) override;
  void arrive(std::unique_ptr<Message> message) override;
  void forget(const Asker& asker, uint64_t ask, const Executor* from) override;
  Cause cause() const override { return ended() ? cause_ : node_->cause(); }
  void request_stop(Cause why) override;
  uint64_t node() const override { return node_->peer().node; }
  void watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) override;
  void unwatch(const void* who) override;
  const Executor* executor_here() const override;
  Time now() const override { return node_->lost() ? Time(0) : node_->home()->now(); }

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Nothing is known of it that would be missed. Any thread.
  bool idle() const { return queued_.load(std::memory_order_relaxed) == 0 && under_way_.load() == 0; }

  // Link's loop only.

  // Sends what waits, as far as credit and link allow.
  void pump();
  // A message of so many bytes went to the link.
  void sent(int64_t bytes);
  // False: that much is not under way.
  bool credit(int64_t messages, int64_t bytes);
  // It is known to have ended.
  void end(Cause cause);
  // Answers what waits: it, or its node, has ended.
  void refuse_all();

 private:
  bool gone() const { return ended() || node_->lost(); }
  Sent hand_over(std::unique_ptr<Message>& message, const Executor* from);
  void admit();
  std::unique_ptr<Message> take(size_t place);
  void refuse(std::unique_ptr<Message> message);

  const Handle<RemoteNode> node_;
  Cause cause_;  // set once, before ended_
  std::atomic<bool> ended_{false};
  std::atomic<int64_t> queued_{0};  // handed over and not yet taken by the link
  std::atomic<int64_t> under_way_{0};
  int64_t under_way_bytes_ = 0;
  std::deque<std::unique_ptr<Message>> queue_;
  size_t admitted_ = 0;   // the first of them, which wait for room no more
  bool in_line_ = false;  // for the link
  friend class RemoteNode;
};

}  // namespace troupe::actor
