// A linked node, seen from here. Everything a RemoteNode does happens on the loop of its link, which is the node's
// first; other threads hand their messages over.
//
// Messages that share their arguments go as one frame, which is sent before any other message goes to that node, and at
// the latest when the loop has nothing older to do; so do the answers that come of them.
#pragma once
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "runtime/actor/cell.h"
#include "runtime/actor/outbox.h"
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
  // What waits here is lost, but for what the link has taken.
  void close(const Error& reason);
  // Closes once what waits here has gone, or after a second; `done` is called when the other side has taken it.
  void drain(const Error& reason, std::function<void()> done);

  // Any thread.
  const net::Peer& peer() const { return peer_; }
  const Handle<Executor>& home() const { return home_; }
  bool lost() const { return lost_.load(std::memory_order_acquire); }
  Cause cause() const { return cause_; }  // REQUIRES: lost()
  void answer(std::unique_ptr<Message> answered) override;
  Handle<RemoteActor> actor(ActorId id, const std::string& name);
  // Runs it on the link's loop, at once where this is its thread. REQUIRES: the loops live.
  void on_loop(std::function<void()> job);

  void deliver(std::unique_ptr<Message> answered) override;
  // Of the link, for a message. False: the actor's turn comes when there is.
  bool has_room(RemoteActor& to);
  // REQUIRES: has_room().
  void transmit(RemoteActor& to, std::unique_ptr<Message> message);
  // Closes the link where it was drained, and nothing waits any more.
  void end_draining();
  // An actor has so many messages more, or less, that wait for it here.
  void count_waiting(int64_t messages) { waiting_ += messages; }
  // The question was sent, and need not be answered.
  void cancel(const Asker& asker, uint64_t ask);
  // Of those whom `who` names, for what `told` posts to its loop.
  void watch(RemoteActor& whom, const void* who, Told told);
  void unwatch(const RemoteActor& whom, const void* who);
  void request_stop(ActorId actor, const Exit& why);
  void lookup(const std::string& name, const std::string& type, Found found);

 private:
  enum class System : uint16_t { cancel, watch, unwatch, down, stop, lookup, found, gone, room };
  struct Asked {
    Handle<Asker> asker;
    uint64_t number;
    Handle<RemoteActor> of;
    const MethodInfo* method;
  };
  struct Answering {
    Handle<Cell> cell;
    bool bundled;  // it came with others
  };
  struct Watched {
    Handle<RemoteActor> whom;
    const void* who;
    Told told;
  };
  struct WatchedHere {
    Handle<Cell> cell;
    std::unique_ptr<char> key;
  };
  // Messages and their bytes, of an actor here.
  struct Share {
    ActorId actor = 0;
    int64_t messages = 0, bytes = 0;
  };

  void on_parcel(net::Parcel parcel);
  void on_room();
  void on_closed(const Error& reason);
  void on_bundle(net::Parcel parcel);
  void on_message(net::Parcel& parcel, bool bundled);
  void on_answer(net::Parcel parcel);
  void on_system(const net::Parcel& parcel);
  void on_cancel(uint64_t ask);
  void on_credit(ActorId actor, BytesReader& reader);
  void send_system(System what, net::Body body, uint64_t ask = 0, uint64_t destination = 0);
  void hold(net::Parcel parcel, std::shared_ptr<const SharedArguments> arguments);
  void send_answer(net::Parcel parcel, bool bundled);
  void send_error(uint64_t ask, const Error& error, bool bundled);
  void give_back(const Share& share);
  void tell_gone(ActorId actor);
  void ended(ActorId actor, const Cause& cause);
  void send_down(uint64_t number, const Down& down);
  void malformed(std::string_view what);
  void dropped(const Error& why);
  Result<std::unique_ptr<Message>> message_of(net::Parcel& parcel, const Cell& cell) const;

  const Handle<Executor> home_;
  std::unique_ptr<net::Link> link_;  // null once closed
  Outbox outbox_;                    // of it
  const net::Peer peer_;
  std::atomic<bool> lost_{false};
  Cause cause_;  // set once, before lost_

  // What we ask of them.
  std::deque<Handle<RemoteActor>> in_line_;  // their messages wait for room on the link
  int64_t waiting_ = 0;                      // messages that wait here, of all actors
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, Asked> asked_;
  std::map<std::pair<const Asker*, uint64_t>, uint64_t> asked_by_;
  std::unordered_map<uint64_t, Watched> watched_;
  std::unordered_map<uint64_t, Found> lookups_;
  std::mutex actors_mutex_;
  std::unordered_map<ActorId, Handle<RemoteActor>> actors_;
  size_t most_actors_ = 64;  // from here on, those that nobody knows any more are sought
  std::optional<Error> draining_;
  std::function<void()> drained_;
  Timer drain_timer_;

  // What they ask of us.
  std::unordered_map<uint64_t, Answering> answering_;  // their questions, until they are answered
  uint64_t last_ask_ = 0;
  std::set<uint64_t> cancelled_;  // system messages go first: these questions are still to come
  uint64_t entered_ = 0;
  std::unordered_map<uint64_t, Share> inside_;    // messages in mailboxes, by `entered`
  std::unordered_map<ActorId, Share> give_back_;  // what the other side was not told of
  size_t most_give_back_ = 64;
  std::unordered_map<uint64_t, WatchedHere> watched_here_;
};

}  // namespace troupe::actor
