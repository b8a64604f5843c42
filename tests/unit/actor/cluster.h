// Simulated processes with linked nodes in one thread, and an actor to talk to.
#pragma once
#include "runtime/actor/linking.h"
#include "runtime/net/inproc.h"
#include "runtime/net/simulated.h"
#include "tests/unit/actor/script.h"

namespace troupe::actor {

struct Note {
  std::string word;
  int64_t number = 0;
};

template <>
struct Wire<Note> {
  static net::Body encode(const Note& note) {
    if (note.word == "cannot be encoded") throw std::runtime_error("no ink");
    return BytesWriter().text(note.word).number(static_cast<uint64_t>(note.number)).take();
  }
  static Result<Note> decode(const net::Body& body) {
    BytesReader reader(body);
    Note note;
    note.word = reader.text();
    note.number = static_cast<int64_t>(reader.number());
    if (note.word == "cannot be decoded") throw std::runtime_error("no glasses");
    if (!reader.complete()) return failed("malformed note");
    return note;
  }
};

class Keeper : public Actor {
 public:
  Result<int64_t> keep(Note note) {
    if (note.number < 0) return failed("{} is negative", note.number);
    words_ += note.word;
    return static_cast<int64_t>(words_.size());
  }
  std::string words() const { return words_; }
  Task<Result<int64_t>> slow(int64_t milliseconds) {
    const Status slept = co_await sleep(std::chrono::milliseconds(milliseconds));
    if (!slept.ok()) ++cut_short_;
    if (!slept.ok()) co_return slept.error();
    co_return milliseconds;
  }
  int cut_short() const { return cut_short_; }
  void fails(std::string why) { throw std::runtime_error(why); }
  wire::Buffer echo(wire::Buffer buffer) { return buffer; }
  void local_only(int) {}
  void ends() { stop("enough"); }

  using Protocol = Methods<&Keeper::keep, &Keeper::words, &Keeper::slow, &Keeper::cut_short, &Keeper::fails,
                           &Keeper::echo, &Keeper::ends>;

 private:
  std::string words_;
  int cut_short_ = 0;
};

// What goes over a cluster's links: the objects themselves, or bytes that take some time.
enum class Carrier : uint8_t { objects, bytes };

// A loop, the networks on it, and what a simulated process is there.
struct Network {
  struct Process {
    Process(Network& network, const std::string& name, uint64_t id, const net::LinkOptions& options, Carrier carrier)
        : local(net::Peer{id, name, "host-" + name, static_cast<int64_t>(100 + id), 1}, "build", "token"),
          transport(network.make_transport(local, options, carrier)),
          node(std::make_unique<Node>(
              NodeOptions{.name = name,
                          .host = "host-" + name,
                          .pid = static_cast<int64_t>(100 + id),
                          .id = id,
                          .on_dropped = [this](const Error& why) { dropped.push_back(why.message()); }},
              std::vector<EventLoop*>{&network.loop})) {}
    std::vector<std::string> dropped;
    net::LocalNode local;
    std::unique_ptr<net::Transport> transport;
    std::unique_ptr<Node> node;
  };

  // Runs a script on that node.
  bool run(Node& node, Script::Body body) {
    bool ended = false;
    const auto script = node.spawn<Script>({.name = "script", .reentrant = true});
    TROUPE_CHECK(script
                     .try_tell<&Script::run>([&, body = std::move(body)](Script& self) -> Task<void> {
                       co_await body(self);
                       ended = true;
                     })
                     .ok());
    loop.run_until_idle();
    while (!ended && loop.clock().now() < std::chrono::seconds(1000) && loop.advance_to_next()) {
    }
    return ended;
  }
  // Lets links come up.
  void settle(Carrier carrier) {
    if (carrier == Carrier::objects) loop.run_until_idle();
    else loop.advance(std::chrono::milliseconds(1));
  }
  std::unique_ptr<net::Transport> make_transport(const net::LocalNode& local, const net::LinkOptions& options,
                                                 Carrier carrier) {
    if (carrier == Carrier::objects) return std::make_unique<net::InprocTransport>(objects, loop, local, options);
    return std::make_unique<net::SimulatedTransport>(wires, loop, local, options);
  }

  SimulatedLoop loop;
  net::InprocNetwork objects;
  net::SimulatedNetwork wires{loop, 1};
};

// Two processes, linked with each other.
struct Cluster : Network {
  explicit Cluster(net::LinkOptions options = {}, Carrier carrier = Carrier::objects)
      : a(*this, "a", 1, options, carrier), b(*this, "b", 2, options, carrier) {
    TROUPE_CHECK(b.node->listen(*b.transport, "b").ok());
    a.node->connect(*a.transport, "b", [](Result<net::Peer> peer) { TROUPE_CHECK(peer.ok() && peer->node == 2); });
    settle(carrier);
    keeper = b.node->spawn<Keeper>({.name = "keeper", .registered = "keeper"});
  }
  // Runs a script on node a.
  bool run(Script::Body body) { return Network::run(*a.node, std::move(body)); }
  Task<Ref<Keeper>> find(Script& self) {
    auto found = co_await lookup<Keeper>(self.node(), 2, "keeper", std::chrono::seconds(1));
    TROUPE_CHECK(found.ok(), "{}", found.error().message());
    co_return *found;
  }

  Process a, b;
  Ref<Keeper> keeper;  // as b has it
};

}  // namespace troupe::actor
