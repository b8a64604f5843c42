#include "runtime/net/simulated.h"

#include <array>
#include <deque>
#include <map>

#include "runtime/base/random.h"
#include "runtime/net/early_link.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace troupe::net {

using actor::CallbackJob;
using std::chrono::nanoseconds;

namespace {

// A caller that meets a cut tries again.
constexpr std::chrono::milliseconds kKnockAgain{200};

class SimulatedLink;
struct Pipe;

bool is_message(wire::FrameKind kind) { return kind <= wire::FrameKind::system; }

}  // namespace

// What a transport shares with what is under way.
struct SimulatedTransport::Own {
  actor::EventLoop& loop;
  const LocalNode& node;
  const LinkOptions options;
  const uint64_t id;
  const std::string name;
  bool gone = false;  // the transport, or the node
};

class SimulatedNetwork::State {
 public:
  using Own = SimulatedTransport::Own;
  struct Listener {
    std::shared_ptr<Own> own;
    std::shared_ptr<std::function<void(std::unique_ptr<Link>)>> accepted;
    bool silent = false;  // its machine is gone: nobody is there to refuse
  };

  State(actor::SimulatedLoop& on, uint64_t key) : loop(on), seed(key) {}

  bool is_cut(uint64_t from, uint64_t to) const { return !cuts.empty() && cuts.contains({from, to}); }
  nanoseconds delay_of(uint32_t random) const {
    return conditions.delay + nanoseconds(static_cast<int64_t>(to_uniform(random) * conditions.jitter.count()));
  }
  // Of what is no frame of a connection.
  nanoseconds next_delay() { return delay_of(philox4x32(seed, calls++).words[0]); }
  void flush(uint64_t from, uint64_t to);

  actor::SimulatedLoop& loop;
  const uint64_t seed;
  SimulatedConditions conditions;
  std::set<std::pair<uint64_t, uint64_t>> cuts;
  std::map<std::string, Listener> listeners;
  std::vector<std::weak_ptr<Pipe>> pipes;
  std::vector<std::weak_ptr<Own>> nodes;
  uint64_t calls = 0, connections = 0, addresses = 0;
  SimulatedCounters counters;
  uint64_t fingerprint = 0;
  std::function<void(const SimulatedFrame&)> seen;
};

namespace {

using State = SimulatedNetwork::State;

// Something on its way to one end of a connection: a frame, its beginning, or its end.
struct Flight final : actor::Job {
  Flight(std::shared_ptr<Pipe> on, size_t end) : pipe(std::move(on)), to(end) {}
  void run() noexcept override;
  void drop() noexcept override { delete this; }
  void fly(nanoseconds delay);
  // At the machine it is meant for.
  void arrive();

  std::shared_ptr<Pipe> pipe;  // null while the pipe holds it
  const size_t to;
  bool there = false;
  std::optional<Parcel> parcel;
  std::function<void()> welcome;  // neither: the other end has left
};

// A connection. End 0 has dialed.
struct Pipe : std::enable_shared_from_this<Pipe> {
  struct End {
    std::shared_ptr<State::Own> node;
    std::weak_ptr<SimulatedLink> link;
    bool open = true;
  };
  struct Way {  // to that end
    uint64_t key = 0;
    uint64_t frames = 0;
    nanoseconds last{0};  // arrival of what was sent last
    std::deque<std::unique_ptr<Flight>> held;
  };
  Pipe(std::shared_ptr<State> network, std::shared_ptr<State::Own> dialer, std::shared_ptr<State::Own> listener)
      : net(std::move(network)), ends{End{std::move(dialer), {}}, End{std::move(listener), {}}} {
    const uint64_t number = ++net->connections;
    for (size_t to : {0U, 1U}) ways[to].key = derive_key(net->seed, number, to);
  }

  bool cut_towards(size_t to) const { return net->is_cut(ends[1 - to].node->id, ends[to].node->id); }
  nanoseconds arrival(size_t to, nanoseconds delay) {
    Way& way = ways[to];
    way.last = std::max(way.last, net->loop.clock().now() + delay);
    return way.last - net->loop.clock().now();
  }
  void send(size_t to, Parcel parcel) {
    if (!ends[to].open) return;
    Way& way = ways[to];
    const SimulatedConditions& c = net->conditions;
    const RandomBlock random = philox4x32(way.key, way.frames++);
    const double fate = to_uniform(random.words[1]);
    if (fate < c.dropped) {
      ++net->counters.dropped;
      return note(to, Fate::dropped, parcel);
    }
    auto* flight = new Flight(shared_from_this(), to);
    nanoseconds delay = arrival(to, net->delay_of(random.words[0]));
    if (fate < c.dropped + c.doubled) {
      ++net->counters.doubled;
      note(to, Fate::doubled, parcel);
      auto* twin = new Flight(shared_from_this(), to);
      twin->parcel.emplace(Parcel{parcel.header, nullptr, parcel.body});
      twin->fly(delay + net->delay_of(random.words[2]));
    } else if (fate < c.dropped + c.doubled + c.overtaken) {
      ++net->counters.overtaken;
      note(to, Fate::overtaken, parcel);
      delay += c.overtaken_by;
    }
    flight->parcel.emplace(std::move(parcel));
    flight->fly(delay);
  }
  // What is no frame is never lost.
  void send(size_t to, std::function<void()> welcome) {
    if (!ends[to].open) return;
    auto* flight = new Flight(shared_from_this(), to);
    flight->welcome = std::move(welcome);
    flight->fly(arrival(to, net->next_delay()));
  }
  void leave(size_t side) {
    if (!std::exchange(ends[side].open, false)) return;
    send(1 - side, nullptr);
  }
  void flush(size_t to) {
    auto& held = ways[to].held;
    while (!held.empty() && !cut_towards(to)) {
      Flight* flight = held.front().release();
      held.pop_front();
      flight->pipe = shared_from_this();
      flight->arrive();
    }
  }
  void note(size_t to, Fate fate, const Parcel& parcel) {
    const wire::Header& h = parcel.header;
    const uint64_t facts[] = {static_cast<uint64_t>(net->loop.clock().now().count()),
                              static_cast<uint64_t>(fate),
                              ends[to].node->id,
                              ends[1 - to].node->id,
                              static_cast<uint64_t>(h.kind) << 16 | h.method,
                              h.destination,
                              h.ask,
                              h.sequence,
                              h.generation,
                              static_cast<uint64_t>(h.time_left_ns)};
    net->fingerprint = XXH3_64bits_withSeed(facts, sizeof(facts), net->fingerprint);
    net->fingerprint = XXH3_64bits_withSeed(parcel.body.words.data(), parcel.body.words.size(), net->fingerprint);
    if (net->seen)
      net->seen({net->loop.clock().now(), fate, ends[1 - to].node->name, ends[to].node->name, h, parcel.body});
  }

  const std::shared_ptr<State> net;
  std::array<End, 2> ends;
  std::array<Way, 2> ways;
};

class SimulatedLink final : public EarlyLink {
 public:
  SimulatedLink(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options,
                std::shared_ptr<Pipe> pipe, size_t side)
      : EarlyLink(loop, node, std::move(peer), options), pipe_(std::move(pipe)), side_(side) {}
  ~SimulatedLink() override { pipe_->leave(side_); }

 protected:
  void pump() override {
    while (core().has_output()) pipe_->send(1 - side_, core().next(now()));
  }
  void finish() override { drained(); }
  void shut() noexcept override { pipe_->leave(side_); }

 private:
  const std::shared_ptr<Pipe> pipe_;
  const size_t side_;
};

std::unique_ptr<LinkHandle> make_link(const std::shared_ptr<Pipe>& pipe, size_t side, const Peer& peer,
                                      const LinkOptions& options) {
  Pipe::End& end = pipe->ends[side];
  auto link = std::make_shared<SimulatedLink>(end.node->loop, end.node->node, peer, options, pipe, side);
  end.link = link;
  return std::make_unique<LinkHandle>(std::move(link));
}

void Flight::fly(nanoseconds delay) { pipe->net->loop.post_after(delay, *this); }

void Flight::run() noexcept {
  const std::shared_ptr<Pipe> keep = pipe;
  if (!there) {
    auto& held = pipe->ways[to].held;
    if (held.empty() && !pipe->cut_towards(to)) return arrive();
    pipe.reset();
    held.emplace_back(this);
    return;
  }
  const std::unique_ptr<Flight> self(this);
  if (welcome) return welcome();
  const auto link = pipe->ends[to].link.lock();
  if (link == nullptr) return;
  if (parcel) link->take(std::move(*parcel));
  else link->peer_left();
}

void Flight::arrive() {
  Pipe::End& end = pipe->ends[to];
  if (!end.open) {
    delete this;
    return;
  }
  if (parcel) {
    ++pipe->net->counters.frames;
    if (is_message(parcel->header.kind)) ++pipe->net->counters.messages;
    pipe->note(to, Fate::delivered, *parcel);
  }
  there = true;
  end.node->loop.post(*this);
}

}  // namespace

void SimulatedNetwork::State::flush(uint64_t from, uint64_t to) {
  for (const auto& weak : pipes) {
    const auto pipe = weak.lock();
    if (!pipe) continue;
    for (size_t end : {0U, 1U}) {
      if (pipe->ends[end].node->id != to || pipe->ends[1 - end].node->id != from || pipe->ways[end].held.empty()) {
        continue;
      }
      loop.post_after(next_delay(), *new CallbackJob([pipe, end] { pipe->flush(end); }));
    }
  }
}

SimulatedNetwork::SimulatedNetwork(actor::SimulatedLoop& loop, uint64_t seed)
    : state_(std::make_shared<State>(loop, seed)) {}

void SimulatedNetwork::set(const SimulatedConditions& conditions) { state_->conditions = conditions; }
void SimulatedNetwork::cut(uint64_t from, uint64_t to) { state_->cuts.insert({from, to}); }
void SimulatedNetwork::mend(uint64_t from, uint64_t to) {
  if (state_->cuts.erase({from, to}) > 0) state_->flush(from, to);
}
void SimulatedNetwork::mend_all() {
  for (const auto& [from, to] : std::exchange(state_->cuts, {})) state_->flush(from, to);
}
const SimulatedCounters& SimulatedNetwork::counters() const { return state_->counters; }
uint64_t SimulatedNetwork::fingerprint() const { return state_->fingerprint; }
void SimulatedNetwork::on_frame(std::function<void(const SimulatedFrame&)> seen) { state_->seen = std::move(seen); }

void SimulatedNetwork::kill(uint64_t node, Death death) {
  for (const auto& weak : state_->nodes) {
    if (const auto own = weak.lock(); own && own->id == node) own->gone = true;
  }
  for (const auto& weak : state_->pipes) {
    const auto pipe = weak.lock();
    if (!pipe) continue;
    for (size_t end : {0U, 1U}) {
      if (pipe->ends[end].node->id != node) continue;
      if (death == Death::of_process) pipe->leave(end);
      pipe->ends[end].open = false;
    }
  }
  for (auto& [address, listener] : state_->listeners) listener.silent |= listener.own->id == node;
  if (death == Death::of_process) {
    std::erase_if(state_->listeners, [&](const auto& entry) { return entry.second.own->id == node; });
  }
}

// A caller, until it is let in, refused, or has waited long enough.
struct SimulatedTransport::Attempt : std::enable_shared_from_this<Attempt> {
  void finish(Result<std::unique_ptr<Link>> result) {
    if (std::exchange(over, true)) return;
    deadline.cancel();
    connected(std::move(result));
  }
  // On the caller's thread, after as long as an answer takes.
  void refuse(const Error& why) {
    net->loop.post_after(net->next_delay(), *new CallbackJob([self = shared_from_this(), why] {
                           if (self->own->gone || self->over) return;
                           self->own->loop.post([self, why] { self->finish(Error(why)); });
                         }));
  }
  void knock() {
    net->loop.post_after(net->next_delay(), *new CallbackJob([self = shared_from_this()] { self->knocked(); }));
  }
  // At the machine that was called.
  void knocked() {
    if (own->gone || over) return;
    const auto found = net->listeners.find(address);
    if (found == net->listeners.end()) return refuse(failed("{}: connection refused", address));
    const State::Listener listener = found->second;
    const bool cut = net->is_cut(own->id, listener.own->id) || net->is_cut(listener.own->id, own->id);
    if (cut || listener.silent) {
      net->loop.post_after(kKnockAgain, *new CallbackJob([self = shared_from_this()] { self->knocked(); }));
      return;
    }
    listener.own->loop.post([self = shared_from_this(), listener] { self->answer(listener); });
  }
  // On the thread of the one who was called.
  void answer(const State::Listener& listener) {
    if (own->gone || over || listener.own->gone) return;
    auto introduced = introduce(own->node, own->options, listener.own->node, listener.own->options);
    if (!introduced.ok()) return refuse(std::move(introduced).error().within(address));
    const auto pipe = std::make_shared<Pipe>(net, own, listener.own);
    std::erase_if(net->pipes, [](const auto& weak) { return weak.expired(); });
    net->pipes.push_back(pipe);
    pipe->send(0, [self = shared_from_this(), pipe, introduction = *introduced] {
      if (self->over) return pipe->leave(0);
      self->finish(std::unique_ptr<Link>(make_link(pipe, 0, introduction.listener, introduction.options_of_dialer)));
    });
    (*listener.accepted)(make_link(pipe, 1, introduced->dialer, introduced->options_of_listener));
  }

  std::shared_ptr<State> net;
  std::shared_ptr<Own> own;
  std::string address;
  std::function<void(Result<std::unique_ptr<Link>>)> connected;
  actor::Timer deadline;
  bool over = false;
};

SimulatedTransport::SimulatedTransport(SimulatedNetwork network, actor::EventLoop& loop, const LocalNode& node,
                                       LinkOptions options)
    : network_(std::move(network)), own_(new Own{loop, node, options, node.self().node, node.self().name}) {
  std::erase_if(network_.state_->nodes, [](const auto& weak) { return weak.expired(); });
  network_.state_->nodes.push_back(own_);
}

SimulatedTransport::~SimulatedTransport() {
  own_->gone = true;
  std::erase_if(network_.state_->listeners,
                [&](const auto& entry) { return entry.second.own == own_ && !entry.second.silent; });
}

Result<std::string> SimulatedTransport::listen(const std::string& address,
                                               std::function<void(std::unique_ptr<Link>)> accepted) {
  State& net = *network_.state_;
  std::string taken = address;
  if (address.empty() || address.ends_with(":0")) taken = fmt::format("simulated:{}", ++net.addresses);
  const auto found = net.listeners.find(taken);
  if (found != net.listeners.end() && !found->second.silent) return failed("{}: address in use", taken);
  net.listeners[taken] = {own_, std::make_shared<std::function<void(std::unique_ptr<Link>)>>(std::move(accepted))};
  return taken;
}

void SimulatedTransport::connect(const std::string& address,
                                 std::function<void(Result<std::unique_ptr<Link>>)> connected) {
  auto attempt = std::make_shared<Attempt>();
  attempt->net = network_.state_;
  attempt->own = own_;
  attempt->address = address;
  attempt->connected = std::move(connected);
  attempt->deadline = own_->loop.after(own_->options.connect_deadline, [attempt] {
    if (attempt->own->gone) return;
    attempt->finish(failed("{}: no answer within {:.1f} s", attempt->address,
                           std::chrono::duration<double>(attempt->own->options.connect_deadline).count()));
  });
  attempt->knock();
}

}  // namespace troupe::net
