// A linked node and its actors, seen from here. Everything a RemoteNode does happens on the loop of its link, which
// is the node's first; other threads hand their messages over.
//
// Credits: a message that came over a link is released to the sender once it has room in its actor's mailbox, so a
// slow actor holds at most its mailbox and a window of each link. Answers never wait for credits.
#pragma once
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "runtime/actor/cell.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

class RemoteActor;

class RemoteNode final : public Asker {
 public:
  using Told = std::function<void(const Down&)>;
  using Found = std::function<void(Result<Address>)>;

  RemoteNode(Handle<Executor> home, std::unique_ptr<net::Link> link);

  // Loop thread only, but for what says otherwise.
  void start();
  void close(const Error& reason);

  // Any thread.
  const net::Peer& peer() const { return peer_; }
  const Handle<Executor>& home() const { return home_; }
  bool lost() const { return lost_.load(std::memory_order_acquire); }
  Cause cause() const { return cause_; }  // REQUIRES: lost()
  Sent send(RemoteActor& to, std::unique_ptr<Message>& message, bool wait, const Executor* from);
  void answer(std::unique_ptr<Message> answered) override;
  Handle<RemoteActor> actor(ActorId id, const std::string& name);
  // Runs it on the link's loop, at once where this is its thread.
  void on_loop(std::function<void()> job);

  void deliver(std::unique_ptr<Message> answered) override;
  void transmit(RemoteActor& to, std::unique_ptr<Message> message);
  void forget(const Asker& asker, uint64_t ask);
  void watch(RemoteActor& whom, Handle<Executor> executor, const void* who, Told told);
  void unwatch(const RemoteActor& whom, const void* who);
  void request_stop(ActorId actor, const Exit& why);
  void lookup(const std::string& name, const std::string& type, Found found);

 private:
  enum class System : uint16_t { reply, error, cancel, watch, unwatch, down, stop, lookup, found, gone };
  struct Asked {
    Handle<Asker> asker;
    uint64_t number;
    Handle<RemoteActor> of;
    const MethodInfo* method;
  };
  struct Watched {
    Handle<RemoteActor> whom;
    const void* who;
    Told told;  // posts to the watcher's loop
  };
  struct Waiting {
    Handle<RemoteActor> to;
    std::unique_ptr<Message> message;
  };

  void on_parcel(net::Parcel parcel);
  void on_room();
  void on_closed(const Error& reason);
  void on_message(net::Parcel parcel);
  void on_answer(net::Parcel parcel);
  void on_system(const net::Parcel& parcel);
  void send_system(System what, net::Body body, uint64_t ask = 0, uint64_t destination = 0);
  void send_answer(net::Parcel parcel);
  void tell_gone(ActorId actor);
  void ended(ActorId actor, Cause cause);
  void send_down(uint64_t number, const Down& down);
  void malformed(std::string_view what);
  Result<std::unique_ptr<Message>> message_of(net::Parcel& parcel, const Cell& cell) const;

  const Handle<Executor> home_;
  std::unique_ptr<net::Link> link_;  // null once closed
  const net::Peer peer_;
  std::atomic<bool> lost_{false};
  Cause cause_;                     // set once, before lost_
  std::atomic<int64_t> queued_{0};  // messages handed over and not yet taken by the link
  std::deque<net::Parcel> outgoing_;
  std::deque<Waiting> waiting_;  // tells that wait for room here
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, Asked> asked_;
  std::map<std::pair<const Asker*, uint64_t>, uint64_t> asked_by_;
  std::unordered_map<uint64_t, Handle<Cell>> answering_;  // their questions, until they are answered
  std::unordered_map<uint64_t, Watched> watched_;
  struct WatchedHere {
    Handle<Cell> cell;
    std::unique_ptr<char> key;
  };
  std::unordered_map<uint64_t, WatchedHere> watched_here_;
  std::unordered_map<uint64_t, Found> lookups_;
  std::mutex actors_mutex_;
  std::unordered_map<ActorId, Handle<RemoteActor>> actors_;
};

// An actor of another node.
class RemoteActor final : public Endpoint {
 public:
  RemoteActor(Handle<RemoteNode> node, ActorId id, std::string name)
      : Endpoint(id, std::move(name)), node_(std::move(node)) {}

  Sent send(std::unique_ptr<Message>& message, const Executor* from) override {
    return node_->send(*this, message, false, from);
  }
  Sent send_when_room(std::unique_ptr<Message>& message, const Executor* from) override {
    return node_->send(*this, message, true, from);
  }
  void arrive(std::unique_ptr<Message> message) override { node_->transmit(*this, std::move(message)); }
  void forget(const Asker& asker, uint64_t ask, const Executor* from) override;
  Cause cause() const override { return ended() ? cause_ : node_->cause(); }
  void request_stop(Cause why) override;
  uint64_t node() const override { return node_->peer().node; }
  void watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) override;
  void unwatch(const void* who) override;
  const Executor* executor_here() const override {
    return node_->home()->loop().runs_here() ? node_->home().get() : nullptr;
  }
  Time now() const override { return node_->home()->now(); }

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Link's loop only: it is known to have ended.
  void end(Cause cause);

 private:
  const Handle<RemoteNode> node_;
  Cause cause_;  // set once, before ended_
  std::atomic<bool> ended_{false};
};

}  // namespace troupe::actor
