// Links over a network that exists only in virtual time, and fails as it is told to: frames come late, twice, in
// another order or not at all; pairs of nodes are cut apart and joined again; nodes die. What happens is a function of
// the seed: each frame's fate is drawn by its place in its connection, so the same seed gives the same run.
//
// A connection is like one of tcp: in order, and reliable while it lives. Frames that meet a cut wait for its end.
// What is dropped, doubled or overtaken is a fault of the carrier, which the links' sequence numbers have to catch.
#pragma once
#include <set>
#include <vector>

#include "runtime/actor/simulated_loop.h"
#include "runtime/net/local_node.h"

namespace troupe::net {

struct SimulatedConditions {
  std::chrono::nanoseconds delay{50'000}, jitter{0};  // a frame takes delay to delay + jitter
  double dropped = 0, doubled = 0, overtaken = 0;     // chances of each frame
  std::chrono::nanoseconds overtaken_by{2'000'000};   // how much later such a frame comes
};

// What the network did with a frame.
enum class Fate : uint8_t { delivered, dropped, doubled, overtaken };

struct SimulatedFrame {
  std::chrono::nanoseconds time{0};
  Fate fate = Fate::delivered;
  const std::string& from;
  const std::string& to;
  const wire::Header& header;
  const Body& body;
};

struct SimulatedCounters {
  int64_t messages = 0;  // delivered frames, but for the links' own
  int64_t frames = 0;    // delivered
  int64_t dropped = 0, doubled = 0, overtaken = 0;
};

// Where the transports of simulated nodes find each other. One thread. Copies are the same network.
class SimulatedNetwork {
 public:
  // The loop outlives the network and its transports.
  SimulatedNetwork(actor::SimulatedLoop& loop, uint64_t seed);

  // From now on, for all pairs of nodes.
  void set(const SimulatedConditions& conditions);
  // Nothing gets from one node to the other until mend(). Nodes are named by Peer::node.
  void cut(uint64_t from, uint64_t to);
  void mend(uint64_t from, uint64_t to);
  void mend_all();
  // The node says nothing more on any of its links. Its peers see closed connections where its machine is still
  // there to close them, and nothing at all where that went, too. Afterwards its parts may be destroyed.
  enum class Death : uint8_t { of_process, of_machine };
  void kill(uint64_t node, Death death);

  const SimulatedCounters& counters() const;
  // Of all frames so far, with their times, contents and fates: equal for equal runs.
  uint64_t fingerprint() const;
  // Called for every frame when its fate is known.
  void on_frame(std::function<void(const SimulatedFrame&)> seen);

  class State;  // what the parts of the network share

 private:
  friend class SimulatedTransport;
  std::shared_ptr<State> state_;
};

// REQUIRES: `loop` is the network's, or a SimulatedThread on it; loop and node outlive the transport and its links,
// but for links of a node that was killed.
class SimulatedTransport final : public Transport {
 public:
  SimulatedTransport(SimulatedNetwork network, actor::EventLoop& loop, const LocalNode& node, LinkOptions options = {});
  ~SimulatedTransport() override;

  std::string_view name() const override { return "simulated"; }
  // Any text is an address; an empty one, or one that ends in ":0", is replaced by one of its own.
  Result<std::string> listen(const std::string& address, std::function<void(std::unique_ptr<Link>)> accepted) override;
  void connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) override;

 private:
  struct Own;
  struct Attempt;
  friend class SimulatedNetwork;
  SimulatedNetwork network_;
  std::shared_ptr<Own> own_;
};

}  // namespace troupe::net
