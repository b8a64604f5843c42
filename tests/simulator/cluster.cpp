#include "tests/simulator/cluster.h"

#include <algorithm>

#include "tests/simulator/players.h"

namespace troupe::simulator {
namespace {

using namespace std::chrono_literals;
using actor::CallbackJob;
using actor::Ref;
using actor::Strategy;

// Until there were so many, things go wrong.
constexpr int64_t kMessages = 1000, kFaults = 3;

struct Shape {
  int nodes, clients, depth, families;
  double fails, ends;
  int64_t faults;     // at least
  nanoseconds pause;  // between two, on average
  bool membership;    // nodes join and leave, too
};

class Cluster {
 public:
  Cluster(Simulation& simulation, const Shape& shape)
      : simulation_(simulation), shape_(shape), ledger_(simulation), random_(simulation.random("cluster")) {
    families_.push_back({.name = "anchor",
                         .supervision = {Strategy::one_for_one, 1'000'000, 1s},
                         .workers = 1,
                         .mailbox = static_cast<int>(4 << random_.below(4))});
    for (int i = 0; i < shape_.families; ++i) families_.push_back(draw_family(fmt::format("family-{}", i), 1));
    for (const FamilySpec& family : families_) {
      for (const std::string& name : names_of(family)) names_.push_back(name);
    }
    links_.heartbeat_every = 100ms;
    links_.silence_limit = 1s;
    links_.connect_deadline = 1s;
    links_.window = int64_t{4} << random_.below(3);
    links_.window_bytes = random_.below(2) == 0 ? int64_t{2} << 10 : int64_t{1} << 20;
    good_ = {.delay = draw(20us, 500us), .jitter = draw(0us, 2ms)};
    simulation_.network.set(good_);
    for (int i = 0; i < shape_.nodes; ++i) start_node();
  }

  ~Cluster() { simulation_.kill_all(); }

  void run() {
    simulation_.run_for(300ms);
    const nanoseconds end = simulation_.now() + 60s;
    while (simulation_.holds() && (simulation_.network.counters().messages < kMessages || faults_ < shape_.faults ||
                                   simulation_.faults() < kFaults)) {
      simulation_.run_for(draw(0s, 2 * shape_.pause));
      go_wrong();
      simulation_.require(simulation_.now() < end, "progress", "only {} messages in 60 s",
                          simulation_.network.counters().messages);
    }
    heal();
    if (simulation_.holds()) visit();
    if (simulation_.holds()) stop();
  }

 private:
  nanoseconds draw(nanoseconds least, nanoseconds most) {
    return least + nanoseconds(static_cast<int64_t>(random_.uniform() * static_cast<double>((most - least).count())));
  }
  Process& any_process() { return *simulation_.processes()[random_.below(simulation_.processes().size())]; }

  FamilySpec draw_family(const std::string& name, int depth) {
    constexpr Strategy kStrategies[] = {Strategy::one_for_one, Strategy::one_for_one, Strategy::one_for_all,
                                        Strategy::escalate, Strategy::ignore};
    FamilySpec family{
        .name = name,
        .supervision = {kStrategies[random_.below(5)], static_cast<int>(random_.below(4)), draw(100ms, 1s)},
        .workers = static_cast<int>(1 + random_.below(3)),
        .mailbox = static_cast<int>(4 << random_.below(4)),
        .stops_in = random_.below(3) == 0 ? draw(0ms, 20ms) : 0ns};
    if (depth < shape_.depth) {
      for (uint64_t i = random_.below(3); i > 0; --i)
        family.families.push_back(draw_family(fmt::format("below-{}", i), depth + 1));
    }
    return family;
  }

  void start_node() {
    Process& process = simulation_.start(fmt::format("n{}", ++started_), links_);
    const uint64_t id = process.id();
    process.on_link = [this](const net::Peer&, const actor::Cause& lost) {
      if (lost != nullptr) check_reason(lost->message());
    };
    process.on_failure = [this, id](const actor::Down& down) {
      // As an operator would.
      simulation_.loop.post_after(50ms, *new CallbackJob([this, id, name = down.name] { start_family(id, name); }));
    };
    simulation_.require(process.node().listen(process.transport(), process.name()).ok(), "a node listens", "{}",
                        process.name());
    for (const FamilySpec& family : families_) start_family(id, family.name);
    for (int i = 0; i < shape_.clients; ++i) {
      const ClientSpec spec{.name = fmt::format("client-{}", i),
                            .number = static_cast<int>(id) * 100 + i,
                            .think = draw(200us, 4ms),
                            .fails = shape_.fails,
                            .ends = shape_.ends};
      process.node().spawn<Client>({.name = spec.name, .reentrant = true, .registered = spec.name}, ledger_, spec,
                                   names_);
    }
    process.node().spawn<Dialer>({.reentrant = true}, simulation_);
  }

  void start_family(uint64_t on, const std::string& name) {
    Process* process = simulation_.find(on);
    const auto family = std::ranges::find(families_, name, &FamilySpec::name);
    if (process == nullptr || family == families_.end() || process->node().stopping()) return;
    process->node().spawn<Family>({.name = name}, &ledger_, int64_t{0}, *family);
  }

  // Why links may end: because something was done to them.
  void check_reason(const std::string& why) {
    const net::SimulatedCounters& counters = simulation_.network.counters();
    const bool carrier_failed = counters.dropped + counters.doubled + counters.overtaken > 0;
    const bool guilty = why.find("gives credit") != std::string::npos || why.find("its window") != std::string::npos ||
                        why.find("sent what it may not") != std::string::npos ||
                        (why.find(" came where ") != std::string::npos && !carrier_failed) ||
                        (why.find("no sign of life") != std::string::npos && !silenced_);
    simulation_.require(!guilty, "a link ends for a reason", "{}", why);
  }

  // Undone after a while, if it can be.
  void later(nanoseconds delay, std::function<void()> undo) {
    simulation_.loop.post_after(delay, *new CallbackJob(std::move(undo)));
  }
  void go_wrong() {
    ++faults_;
    const uint64_t id = any_process().id();
    Process& process = *simulation_.find(id);
    const nanoseconds a_while = random_.below(2) == 0 ? draw(10ms, 300ms) : draw(500ms, 2500ms);
    const bool one_left = simulation_.processes().size() == 1;
    switch (random_.below(!shape_.membership ? 6 : one_left ? 7 : 12)) {
      case 0:
      case 1: {
        net::SimulatedConditions bad = good_;
        bad.dropped = 0.02 * random_.uniform();
        bad.doubled = 0.02 * random_.uniform();
        bad.overtaken = 0.02 * random_.uniform();
        simulation_.fault("the network loses, doubles and reorders frames");
        simulation_.network.set(bad);
        return later(draw(20ms, 300ms), [this] { simulation_.network.set(good_); });
      }
      case 2: {
        simulation_.fault(fmt::format("{} is held for {} ms", process.name(), a_while / 1ms));
        silenced_ = true;
        process.hold();
        return later(a_while, [this, id] {
          if (Process* held = simulation_.find(id)) held->go_on();
        });
      }
      case 3: {
        const nanoseconds pace = draw(5us, 100us);
        simulation_.fault(fmt::format("{} takes {} µs for everything", process.name(), pace / 1us));
        silenced_ = true;
        process.slow_down(pace);
        return later(a_while, [this, id] {
          if (Process* slow = simulation_.find(id)) slow->slow_down(0ns);
        });
      }
      case 4:
      case 5:
      case 6: return cut(id, any_process().id(), a_while);
      case 7:
      case 8: {
        const Death death = random_.below(2) == 0 ? Death::of_process : Death::of_machine;
        simulation_.fault(fmt::format("{} of {}", death == Death::of_process ? "death" : "crash", process.name()));
        silenced_ |= death == Death::of_machine;
        simulation_.kill(id, death);
        return replace();
      }
      case 9: {
        simulation_.fault(fmt::format("{} leaves", process.name()));
        if (!process.node().stopping()) replace();
        process.go_on();
        return simulation_.leave(id);
      }
      default: {
        simulation_.fault("a node joins");
        if (simulation_.processes().size() < 7) start_node();
      }
    }
  }
  void replace() {
    later(draw(0ms, 500ms), [this] {
      if (simulation_.processes().size() < static_cast<size_t>(shape_.nodes) + 1) start_node();
    });
  }
  void cut(uint64_t one, uint64_t other, nanoseconds a_while) {
    if (one == other) return;
    const bool both_ways = random_.below(3) > 0;
    simulation_.fault(fmt::format("node {} {} node {} for {} ms", one, both_ways ? "is cut from" : "is not heard by",
                                  other, a_while / 1ms));
    silenced_ = true;
    simulation_.network.cut(one, other);
    if (both_ways) simulation_.network.cut(other, one);
    later(a_while, [this, one, other] {
      simulation_.network.mend(one, other);
      simulation_.network.mend(other, one);
    });
  }

  void heal() {
    simulation_.trace("all is well again");
    simulation_.network.mend_all();
    simulation_.network.set(good_);
    for (const auto& process : simulation_.processes()) {
      process->go_on();
      process->slow_down(0ns);
    }
    ledger_.quiet_begins();
    simulation_.run_for(5s);
    for (const auto& process : simulation_.processes()) {
      simulation_.require(process->node().peers().size() + 1 == simulation_.processes().size(),
                          "everyone is linked once all is well", "{} has {} links, and {} nodes live", process->name(),
                          process->node().peers().size(), simulation_.processes().size());
    }
  }

  void visit() {
    bool everyone = true;  // for the first
    for (const auto& process : simulation_.processes()) {
      const auto client = process->node().lookup<Client>("client-0");
      if (client.ok()) (void)client->try_tell<&Client::visit>(std::exchange(everyone, false)).ok();
    }
    simulation_.run_for(5s);
    ledger_.check_quiet();
  }

  void stop() {
    ledger_.end_begins();
    size_t stopped = 0;
    const size_t nodes = simulation_.processes().size();
    for (const auto& process : simulation_.processes()) process->node().stop("the end", [&stopped] { ++stopped; });
    const bool all = simulation_.run_until([&] { return stopped == nodes; }, 10s);
    simulation_.require(all, "a node that is told to stop stops", "{} of {} did", stopped, nodes);
    simulation_.run_for(1s);
    for (const auto& process : simulation_.processes()) {
      simulation_.require(process->node().living() == 0, "nothing is left", "{} actors of {}", process->node().living(),
                          process->name());
    }
    simulation_.require(ledger_.living() == 0, "nothing is left", "{} actors", ledger_.living());
  }

  Simulation& simulation_;
  const Shape shape_;
  Ledger ledger_;
  RandomStream random_;
  std::vector<FamilySpec> families_;
  std::vector<std::string> names_;
  net::LinkOptions links_;
  net::SimulatedConditions good_;
  int started_ = 0;
  int64_t faults_ = 0;
  bool silenced_ = false;
};

}  // namespace

void run_supervision(Simulation& simulation) {
  RandomStream random = simulation.random("shape");
  Cluster cluster(simulation, {.nodes = static_cast<int>(2 + random.below(2)),
                               .clients = 2,
                               .depth = 2,
                               .families = static_cast<int>(1 + random.below(3)),
                               .fails = 0.12,
                               .ends = 0.03,
                               .faults = 3,
                               .pause = 100ms,
                               .membership = false});
  cluster.run();
}

void run_membership(Simulation& simulation) {
  RandomStream random = simulation.random("shape");
  Cluster cluster(simulation, {.nodes = static_cast<int>(3 + random.below(3)),
                               .clients = 1,
                               .depth = 1,
                               .families = 1,
                               .fails = 0.03,
                               .ends = 0.02,
                               .faults = static_cast<int64_t>(4 + random.below(8)),
                               .pause = 150ms,
                               .membership = true});
  cluster.run();
}

}  // namespace troupe::simulator
