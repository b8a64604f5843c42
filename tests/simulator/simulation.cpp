#include "tests/simulator/simulation.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace troupe::simulator {
namespace {

constexpr std::chrono::milliseconds kFarewell{5};

std::string_view name_of(net::Fate fate) {
  switch (fate) {
    case net::Fate::delivered: return "";
    case net::Fate::dropped: return " LOST";
    case net::Fate::doubled: return " DOUBLED";
    case net::Fate::overtaken: return " OVERTAKEN";
  }
  return "";
}

std::string_view name_of(wire::FrameKind kind) {
  constexpr std::string_view kNames[] = {"?", "message", "reply", "error", "system", "credit", "heartbeat", "close"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace

Process::Process(Simulation& simulation, std::string name, uint64_t id, uint64_t generation, net::LinkOptions options)
    : simulation_(simulation),
      local_(net::Peer{id, name, "host-" + name, static_cast<int64_t>(100 + id), generation}, "build", "token"),
      thread_(simulation.loop) {
  transport_ = std::make_unique<net::SimulatedTransport>(simulation.network, thread_, local_, options);
  actor::NodeOptions node;
  node.name = std::move(name);
  node.host = local_.self().host;
  node.pid = local_.self().pid;
  node.id = id;
  node.generation = generation;
  if (simulation.traces()) node.trace = &simulation;
  node.on_link = [this](const net::Peer& peer, const actor::Cause& lost) {
    if (on_link)
      simulation_.trace(fmt::format("{}: link to {} {}", this->name(), peer.name,
                                    lost == nullptr ? "is there" : "ended: " + lost->message()));
    if (on_link) on_link(peer, lost);
  };
  node.on_failure = [this](const actor::Down& down) {
    if (on_failure) on_failure(down);
  };
  node_ = std::make_unique<actor::Node>(std::move(node), std::vector<actor::EventLoop*>{&thread_});
}

Process::~Process() {
  on_link = nullptr;
  on_failure = nullptr;
  node_.reset();
  transport_.reset();
}

void Process::hold() {
  if (thread_.held()) return;
  thread_.hold();
  held_since_ = simulation_.now();
}

void Process::go_on() {
  if (!thread_.held()) return;
  held_ += simulation_.now() - held_since_;
  thread_.go_on();
}

void Process::slow_down(nanoseconds pace) {
  if (slow_) held_ += simulation_.now() - slow_since_;
  slow_ = pace > nanoseconds(0);
  slow_since_ = simulation_.now();
  thread_.set_pace(pace);
}

nanoseconds Process::held() const {
  nanoseconds held = held_;
  if (thread_.held()) held += simulation_.now() - held_since_;
  if (slow_) held += simulation_.now() - slow_since_;
  return held;
}

Simulation::Simulation(uint64_t seed, std::function<void(const std::string&)> trace)
    : network(loop, derive_key(seed, hash_name("network"))), seed_(seed), trace_(std::move(trace)) {
  if (!trace_) return;
  network.on_frame([this](const net::SimulatedFrame& frame) {
    using wire::FrameKind;
    const FrameKind kind = frame.header.kind;
    if (frame.fate == net::Fate::delivered && kind == FrameKind::heartbeat) return;
    const wire::Header& h = frame.header;
    this->trace(fmt::format("  {} → {}{}: {} {} (frame {}, ask {}, to {:x}, from {:x}, {} bytes)", frame.from, frame.to,
                            name_of(frame.fate), name_of(kind), h.method, h.sequence, h.ask, h.destination, h.source,
                            frame.body.bytes()));
  });
}

Simulation::~Simulation() { kill_all(); }

void Simulation::kill_all() {
  while (!processes_.empty()) kill(processes_.back()->id(), Death::of_machine);
}

Process& Simulation::start(const std::string& name, net::LinkOptions options, uint64_t generation) {
  trace(fmt::format("{} starts as node {}", name, started_ + 1));
  processes_.push_back(std::make_unique<Process>(*this, name, ++started_, generation, options));
  return *processes_.back();
}

Process* Simulation::find(uint64_t id) const {
  const auto found = std::ranges::find(processes_, id, [](const auto& process) { return process->id(); });
  return found == processes_.end() ? nullptr : found->get();
}

void Simulation::kill(uint64_t id, Death death) {
  network.kill(id, death);
  const auto found = std::ranges::find(processes_, id, [](const auto& process) { return process->id(); });
  if (found == processes_.end()) return;
  const std::unique_ptr<Process> process = std::move(*found);
  processes_.erase(found);
}

void Simulation::leave(uint64_t id) {
  Process* process = find(id);
  if (process == nullptr) return;
  process->node().stop("it leaves", [this, id] {
    // What is said at the end is still on its way to the network.
    loop.post_after(kFarewell, *new actor::CallbackJob([this, id] { kill(id, Death::of_process); }));
  });
}

bool Simulation::run_until(const std::function<bool()>& predicate, nanoseconds limit) {
  const nanoseconds end = now() + limit;
  loop.run_until_idle();
  while (!predicate()) {
    if (now() >= end || !loop.advance_to_next()) return false;
  }
  return true;
}

void Simulation::fault(std::string_view what) {
  ++faults_;
  trace(fmt::format("FAULT {}", what));
}

int64_t Simulation::faults() const {
  const net::SimulatedCounters& counters = network.counters();
  return faults_ + counters.dropped + counters.doubled + counters.overtaken;
}

void Simulation::violated(std::string_view invariant, std::string details) {
  trace(fmt::format("VIOLATED {}: {}", invariant, details));
  if (violation_.empty()) violation_ = fmt::format("{}: {}", invariant, details);
}

void Simulation::trace(std::string_view line) {
  if (trace_) trace_(fmt::format("{:>12.6f} {}", std::chrono::duration<double>(now()).count(), line));
}

void Simulation::span(const TraceSpan& span) { trace(fmt::format("  {} runs {}", span.detail, span.name)); }

}  // namespace troupe::simulator
