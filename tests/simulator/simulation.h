// A cluster in one thread and in virtual time, as one seed draws it: simulated processes, the network between them,
// what goes wrong, and what must hold all the same. The same seed is the same run, to the event.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor/node.h"
#include "runtime/actor/simulated_thread.h"
#include "runtime/base/random.h"
#include "runtime/net/simulated.h"

namespace troupe::simulator {

using std::chrono::nanoseconds;
using Death = net::SimulatedNetwork::Death;

class Simulation;

// One start of a process: a node on a thread of its own.
class Process {
 public:
  Process(Simulation& simulation, std::string name, uint64_t id, uint64_t generation, net::LinkOptions options);
  // SIGKILL: nothing of it runs any more.
  ~Process();

  actor::Node& node() const { return *node_; }
  net::Transport& transport() { return *transport_; }
  net::LocalNode& local() { return local_; }
  actor::SimulatedThread& thread() { return thread_; }
  uint64_t id() const { return local_.self().node; }
  const std::string& name() const { return local_.self().name; }

  // SIGSTOP and SIGCONT.
  void hold();
  void go_on();
  // Everything takes it so long; zero ends that.
  void slow_down(nanoseconds pace);
  // How long it was held or slow so far: its own time is late by no more.
  nanoseconds held() const;

  // The links that have come and gone, in order.
  std::function<void(const net::Peer&, const actor::Cause& lost)> on_link;
  std::function<void(const actor::Down&)> on_failure;

 private:
  Simulation& simulation_;
  net::LocalNode local_;
  actor::SimulatedThread thread_;
  std::unique_ptr<net::SimulatedTransport> transport_;
  std::unique_ptr<actor::Node> node_;
  nanoseconds held_{0}, held_since_{0}, slow_since_{0};
  bool slow_ = false;
};

class Simulation final : public TraceSink {
 public:
  // `trace`: every line of the run is handed to it; null: nobody looks.
  explicit Simulation(uint64_t seed, std::function<void(const std::string&)> trace = {});
  ~Simulation() override;

  uint64_t seed() const { return seed_; }
  // Draws of its own for each purpose.
  RandomStream random(std::string_view purpose) const { return {derive_key(seed_, hash_name(purpose))}; }
  nanoseconds now() const { return loop.clock().now(); }

  Process& start(const std::string& name, net::LinkOptions options, uint64_t generation = 0);
  // Null: it has ended.
  Process* find(uint64_t id) const;
  const std::vector<std::unique_ptr<Process>>& processes() const { return processes_; }
  // From the fault plan or a test, or another process's handler; never from its own.
  void kill(uint64_t id, Death death);
  void kill_all();
  // Its actors stop, its links are closed, it ends.
  void leave(uint64_t id);

  // Runs until the predicate holds; false where `limit` has passed before.
  bool run_until(const std::function<bool()>& predicate, nanoseconds limit);
  void run_for(nanoseconds duration) { loop.advance(duration); }

  // Something was done to the cluster on purpose.
  void fault(std::string_view what);
  int64_t faults() const;
  // An invariant does not hold. The first one stands.
  void violated(std::string_view invariant, std::string details);
  bool holds() const { return violation_.empty(); }
  const std::string& violation() const { return violation_; }
  template <class... A>
  void require(bool condition, std::string_view invariant, fmt::format_string<A...> format, A&&... arguments) {
    if (!condition) [[unlikely]]
      violated(invariant, fmt::format(format, std::forward<A>(arguments)...));
  }
  void trace(std::string_view line);
  bool traces() const { return trace_ != nullptr; }

  void span(const TraceSpan& span) override;
  void sent(uint64_t, nanoseconds, int64_t) override {}

  actor::SimulatedLoop loop;
  net::SimulatedNetwork network;

 private:
  const uint64_t seed_;
  const std::function<void(const std::string&)> trace_;
  std::vector<std::unique_ptr<Process>> processes_;
  uint64_t started_ = 0;
  int64_t faults_ = 0;
  std::string violation_;
};

}  // namespace troupe::simulator
