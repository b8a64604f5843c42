// A link behind its handle: the account (link_core.h) joined to a loop, a timer and the user's callbacks. Each backend
// derives from it and moves frames. Kept alive by its handle, its connection, and what waits on the loop; the user's
// callbacks may close or destroy the link they came from.
#pragma once
#include <deque>

#include "runtime/actor/event_loop.h"
#include "runtime/net/link_core.h"
#include "runtime/net/local_node.h"

namespace troupe::net {

class LinkState : public actor::Job, public std::enable_shared_from_this<LinkState> {
 public:
  LinkState(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options);
  LinkState(const LinkState&) = delete;
  LinkState& operator=(const LinkState&) = delete;
  virtual ~LinkState() = default;

  const Peer& peer() const { return core_.peer(); }
  const LinkCounters& counters() const { return core_.counters(); }
  const std::string& own_name() const { return node_.self().name; }
  void start(LinkEvents events);
  Status prepare(Parcel& parcel);
  bool has_room();
  bool send(Parcel& parcel);
  void release(int64_t count);
  void close(const Error& reason, std::function<void()> drained = {});

 protected:
  // --- What a backend does. Called by the methods below; never after shut().

  // The user listens: begin to receive.
  virtual void open() = 0;
  // Transmits core().next() while there is output and the connection takes it; called again when there is more.
  virtual void pump() = 0;
  // The reason, too, was handed to the connection: see to it that it gets through, then call drained(), which is
  // called in any case a second after close().
  virtual void finish() = 0;
  // Frees the connection, at once; what it still carries is lost. Once.
  virtual void shut() noexcept = 0;
  // The content as this backend carries it. Errors: it cannot be sent.
  virtual Status encode(Parcel& parcel);

  // --- What a backend calls.

  LinkCore& core() { return core_; }
  actor::EventLoop& loop() { return loop_; }
  LinkCore::Time now() const { return loop_.clock().now(); }
  bool is_open() const { return phase_ == Phase::open; }
  bool is_shut() const { return phase_ == Phase::shut; }
  bool is_closing() const { return phase_ == Phase::closing; }
  void heard() { core_.heard(now()); }
  // A whole frame came. False: receive no more.
  bool arrived(Parcel parcel);
  // The connection is gone; the cause counts only where nothing was known before.
  void lost(Error cause);
  void drained();
  // Runs pump() soon.
  void schedule();

 private:
  enum class Phase { waiting, open, closing, shut };
  void run() noexcept override;
  void drop() noexcept override { scheduled_.reset(); }
  void tick();
  void end();

  actor::EventLoop& loop_;
  const LocalNode& node_;
  LinkCore core_;
  Phase phase_ = Phase::waiting;
  std::shared_ptr<LinkEvents> events_;
  std::function<void()> drained_;
  std::optional<Error> lost_early_;  // before start()
  std::shared_ptr<LinkState> scheduled_;
  bool finishing_ = false;
  actor::Timer timer_;
};

// What the user holds.
class LinkHandle final : public Link {
 public:
  explicit LinkHandle(std::shared_ptr<LinkState> state) : state_(std::move(state)) {}
  ~LinkHandle() override;
  const Peer& peer() const override { return state_->peer(); }
  void start(LinkEvents events) override { state_->start(std::move(events)); }
  Status prepare(Parcel& parcel) override { return state_->prepare(parcel); }
  bool has_room() override { return state_->has_room(); }
  bool send(Parcel& parcel) override { return state_->send(parcel); }
  void release(int64_t count) override { state_->release(count); }
  void close(const Error& reason, std::function<void()> drained) override { state_->close(reason, std::move(drained)); }
  const LinkCounters& counters() const override { return state_->counters(); }

 private:
  std::shared_ptr<LinkState> state_;
};

}  // namespace troupe::net
