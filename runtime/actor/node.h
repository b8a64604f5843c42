// One process's actors (in a simulation: one simulated process's). Loops, clock and transports are handed in, so
// that many nodes can live in one thread under virtual time.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <typeinfo>
#include <unordered_map>
#include <vector>

#include "runtime/actor/actor.h"
#include "runtime/actor/cell.h"
#include "runtime/actor/ref.h"
#include "runtime/actor/report.h"
#include "runtime/base/trace.h"

namespace troupe::actor {

class RemoteNode;

struct NodeOptions {
  std::string name = "node";  // stands in messages: "node head"
  std::string host = {};
  int64_t pid = 0;
  uint64_t id = 1;  // not 0; unique for each start of a process
  uint64_t generation = 0;
  // How long a tell waits for room where its handler has no deadline.
  std::chrono::nanoseconds tell_deadline = std::chrono::seconds(30);
  // Told what every handler ran, piece by piece (a lane for each loop); null: nobody. Outlives the node.
  TraceSink* trace = nullptr;
  // An actor without parent has failed. On the loop of the actor.
  std::function<void(const Down&)> on_failure = {};
  // A message between nodes that was promised to arrive does not: its content cannot be carried, or is not what the
  // actor's Protocol says. On the first loop.
  std::function<void(const Error&)> on_dropped = {};
  // A node was linked (no cause), or its link has ended. On the first loop.
  std::function<void(const net::Peer&, const Cause& lost)> on_link = {};
};

// Thread-safe, but for what says otherwise.
class Node {
 public:
  // The loops outlive the node.
  Node(NodeOptions options, std::vector<EventLoop*> loops);
  // Ends what still lives, without a word. REQUIRES: no loop is running, or this is the thread of all of them and no
  // handler is on its stack.
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const NodeOptions& options() const { return options_; }
  // "node head, host gpu17, pid 411"
  const std::string& where() const { return where_; }

  // Starts an actor that has no parent. Throws what T's constructor throws, and CheckFailure once the node stops.
  template <class T, class... A>
  Ref<T> spawn(SpawnOptions options, A&&... arguments) {
    if (options.name.empty()) options.name = type_name<T>();
    auto cell = start_cell(options, nullptr, std::make_unique<T>(std::forward<A>(arguments)...), protocol_of<T>());
    TROUPE_CHECK(cell != nullptr, "node {} stops and starts no actors: {}", options_.name, options.name);
    return Ref<T>(std::move(cell));
  }
  // The actor registered under that name on this node. T is what it was spawned as, which is checked.
  template <class T>
  Result<Ref<T>> lookup(const std::string& name) const {
    auto cell = TROUPE_TRY(find_registered(name, typeid(T).name()));
    return Ref<T>(std::move(cell));
  }

  // Links to other nodes. Transports are the caller's, made for the first loop; what follows is called on that loop's
  // thread, or before it runs. Of two links to one node the first stays: one side dials.
  void adopt(std::unique_ptr<net::Link> link);
  Result<std::string> listen(net::Transport& transport, const std::string& address);
  void connect(net::Transport& transport, const std::string& address, std::function<void(Result<net::Peer>)> connected);
  // Ends the link once what waits for it has gone (for at most a second), with the reason told to the other side.
  void unlink(uint64_t node, const Error& reason);
  // The same from a plain thread, which waits, also for a name's number. See also linking.h for handlers.
  Result<std::string> listen_blocking(net::Transport& transport, const std::string& address);
  Result<net::Peer> connect_blocking(net::Transport& transport, const std::string& address,
                                     std::chrono::nanoseconds timeout);
  std::vector<net::Peer> peers() const;

  // Asks a linked node for the actor registered there under that name. `found` is called on the first loop.
  void find_on(uint64_t node, const std::string& name, const std::string& type,
               std::function<void(Result<Address>)> found);
  template <class T>
  Result<Ref<T>> lookup_blocking(uint64_t node, const std::string& name, std::chrono::nanoseconds timeout) {
    const Address address = TROUPE_TRY(find_blocking(node, name, typeid(T).name(), timeout));
    return ref<T>(address);
  }
  // Errors: no link to its node; an actor of this node that is no T. REQUIRES: one of another node is a T, too.
  template <class T>
  Result<Ref<T>> ref(const Address& address) const {
    auto endpoint = TROUPE_TRY(resolve(address, typeid(T)));
    return Ref<T>(std::move(endpoint));
  }

  // Stops the actors without parents in reverse order of their start, each with its children; `stopped` is called on
  // the first loop when all have ended and what they sent to other nodes has arrived there (see unlink()).
  void stop(std::string why, std::function<void()> stopped);
  // As above, waiting on the calling thread, which is no loop's. The error says what keeps it, or what failed first
  // while it stopped.
  Status stop_blocking(std::chrono::nanoseconds timeout, std::string why = "the node stops");
  // What every actor is doing (report.h); `done` is called on some loop.
  void report(std::function<void(NodeReport)> done);
  // As above, waiting on the calling thread, which is no loop's; a loop that does not answer in time is named with
  // what it runs.
  NodeReport report_blocking(std::chrono::nanoseconds timeout);

  int64_t living() const;
  // stop() was called: no actor is started any more.
  bool stopping() const;

  // For the runtime's own parts.
  Executor& executor(int index) const { return *executors_.at(static_cast<size_t>(index)); }
  int loops() const { return static_cast<int>(executors_.size()); }
  // Null where the node stops.
  Handle<Cell> start_cell(const SpawnOptions& options, Cell* parent, std::unique_ptr<Actor> actor,
                          ProtocolTable protocol);
  Handle<Cell> find(ActorId id) const;
  void ended(Cell& cell);
  std::vector<Handle<Cell>> cells_of(const Executor& executor) const;
  Result<Handle<Cell>> find_registered(const std::string& name, const std::string& type) const;
  // What the actor died of.
  Cause epitaph(ActorId id) const;
  void link_lost(RemoteNode& remote);

 private:
  struct Place {
    Handle<Cell> cell;
    uint32_t use = 0;
  };
  Handle<RemoteNode> remote(uint64_t node) const;
  void stop_next();
  void remove(ActorId id);
  Result<Handle<Endpoint>> resolve(const Address& address, const std::type_info& type) const;
  Result<Address> find_blocking(uint64_t node, const std::string& name, const std::string& type,
                                std::chrono::nanoseconds timeout);

  const NodeOptions options_;
  const std::string where_;
  std::vector<Handle<Executor>> executors_;

  mutable std::mutex mutex_;  // what follows
  std::vector<Place> places_;
  std::vector<uint32_t> free_;
  std::vector<Handle<Cell>> roots_;  // in order of their start
  std::unordered_map<std::string, Handle<Cell>> names_;
  std::unordered_map<uint64_t, Handle<RemoteNode>> remotes_;
  std::deque<std::pair<ActorId, Cause>> epitaphs_;  // of the last that died
  int64_t living_ = 0;
  Cause stopping_;
  Cause stop_failure_;  // of the first root that failed since
  std::vector<std::function<void()>> stopped_;
};

}  // namespace troupe::actor
