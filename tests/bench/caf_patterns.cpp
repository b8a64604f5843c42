#include "tests/bench/caf_patterns.h"

#include <algorithm>
#include <caf/all.hpp>
#include <caf/io/all.hpp>
#include <chrono>
#include <stdexcept>
#include <vector>

namespace troupe::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Ball = caf::atom_constant<caf::atom("ball")>;
using Play = caf::atom_constant<caf::atom("play")>;
using Meet = caf::atom_constant<caf::atom("meet")>;
using Done = caf::atom_constant<caf::atom("done")>;

constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::minutes kPeerLife{10};
constexpr int64_t kBatch = 1000;  // that a source sends before others have their turn

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

caf::actor_system_config local_config(int threads) {
  caf::actor_system_config config;
  config.set("scheduler.max-threads", static_cast<size_t>(threads));
  return config;
}

// The result that an actor sends to the thread that waits here.
double await_result(caf::scoped_actor& self) {
  double result = -1;
  self->receive([&](Done, double value) { result = value; }, caf::after(kPatience) >> [] {});
  if (result < 0) throw std::runtime_error("CAF: no result in time");
  return result;
}

caf::behavior player(caf::event_based_actor* self) {
  struct State {
    caf::actor other, referee;
    int64_t left = 0;
    Clock::time_point start;
  };
  auto state = std::make_shared<State>();
  return {[=](Meet, const caf::actor& other) { state->other = other; },
          [=](Play, int64_t throws, const caf::actor& referee) {
            state->left = throws;
            state->referee = referee;
            state->start = Clock::now();
            self->send(state->other, Ball::value);
          },
          [=](Ball) {
            if (state->referee && state->left-- <= 0) {
              self->send(state->referee, Done::value, seconds_since(state->start));
              return;
            }
            self->send(state->other, Ball::value);
          }};
}

caf::behavior sink(caf::event_based_actor* self, int64_t messages, const caf::actor& referee) {
  auto left = std::make_shared<int64_t>(messages);
  return {[=](int64_t) {
    if (--*left == 0) self->send(referee, Done::value, 0.0);
  }};
}

caf::behavior source(caf::event_based_actor* self, const caf::actor& to) {
  return {[=](Play, int64_t left) {
    for (int64_t i = 0; i < std::min(left, kBatch); ++i) self->send(to, i);
    if (left > kBatch) self->send(self, Play::value, left - kBatch);
  }};
}

caf::behavior echo(caf::event_based_actor*) {
  return {[](int64_t number) { return number; }};
}

class Asker {
 public:
  Asker(caf::event_based_actor* self, caf::actor peer, caf::actor referee)
      : self_(self), peer_(std::move(peer)), referee_(std::move(referee)) {}

  void ask(int64_t left) {
    const auto start = Clock::now();
    self_->request(peer_, kPatience, left).then([=](int64_t) {
      seconds_.push_back(seconds_since(start));
      if (left > 1) return ask(left - 1);
      std::nth_element(seconds_.begin(), seconds_.begin() + static_cast<std::ptrdiff_t>(seconds_.size() / 2),
                       seconds_.end());
      self_->send(referee_, Done::value, seconds_[seconds_.size() / 2]);
    });
  }

 private:
  caf::event_based_actor* self_;
  caf::actor peer_, referee_;
  std::vector<double> seconds_;
};

caf::behavior asker(caf::event_based_actor* self, const caf::actor& peer, const caf::actor& referee) {
  return {[=](Play, int64_t asks) {
    auto state = std::make_shared<Asker>(self, peer, referee);
    self->attach_functor([state] {});  // as long as the actor
    state->ask(asks);
  }};
}

caf::actor_system_config remote_config() {
  caf::actor_system_config config;
  config.load<caf::io::middleman>();
  return config;
}

}  // namespace

double caf_ping_pong(int64_t throws, int threads) {
  caf::actor_system_config config = local_config(threads);
  caf::actor_system system(config);
  caf::scoped_actor self(system);
  const caf::actor first = system.spawn(player), second = system.spawn(player);
  self->send(first, Meet::value, second);
  self->send(second, Meet::value, first);
  self->send(first, Play::value, throws, caf::actor(self));
  const double seconds = await_result(self);
  for (const caf::actor& one : {first, second}) self->send_exit(one, caf::exit_reason::user_shutdown);
  return seconds / static_cast<double>(2 * throws);
}

double caf_fan_in(int64_t messages_of_each, int threads) {
  constexpr int64_t kSources = 4;
  caf::actor_system_config config = local_config(threads);
  caf::actor_system system(config);
  caf::scoped_actor self(system);
  const int64_t messages = kSources * messages_of_each;
  const caf::actor into = system.spawn(sink, messages, caf::actor(self));
  std::vector<caf::actor> actors{into};
  for (int64_t i = 0; i < kSources; ++i) actors.push_back(system.spawn(source, into));
  const auto start = Clock::now();
  for (size_t i = 1; i < actors.size(); ++i) self->send(actors[i], Play::value, messages_of_each);
  await_result(self);
  const double seconds = seconds_since(start);
  for (const caf::actor& one : actors) self->send_exit(one, caf::exit_reason::user_shutdown);
  return static_cast<double>(messages) / seconds;
}

struct CafPair::State {
  State() : config(remote_config()), system(config), self(system) {}
  caf::actor_system_config config;
  caf::actor_system system;
  caf::scoped_actor self;
  caf::actor peer;
};

// The peer dials, and sends its echo to the actor that it finds.
CafPair::CafPair(const std::function<void(uint16_t port)>& start_peer) : state_(new State) {
  const auto port = state_->system.middleman().publish(caf::actor(state_->self), 0, "127.0.0.1");
  if (!port) throw std::runtime_error("CAF: cannot listen");
  start_peer(*port);
  state_->self->receive([&](Meet, const caf::actor& peer) { state_->peer = peer; }, caf::after(kPatience) >> [] {});
  if (!state_->peer) throw std::runtime_error("CAF: the second process did not come in time");
}

CafPair::~CafPair() = default;

double CafPair::round_trip(int64_t asks) {
  const caf::actor one = state_->system.spawn(asker, state_->peer, caf::actor(state_->self));
  state_->self->send(one, Play::value, asks);
  const double seconds = await_result(state_->self);
  state_->self->send_exit(one, caf::exit_reason::user_shutdown);
  return seconds;
}

void serve_caf_peer(uint16_t port) {
  caf::actor_system_config config = remote_config();
  caf::actor_system system(config);
  caf::scoped_actor self(system);
  const auto asks = system.middleman().remote_actor("127.0.0.1", port);
  if (!asks) throw std::runtime_error("CAF: cannot connect");
  const caf::actor answers = system.spawn(echo);
  self->monitor(*asks);
  self->send(*asks, Meet::value, answers);
  self->receive([](const caf::down_msg&) {}, caf::after(kPeerLife) >> [] {});
  self->send_exit(answers, caf::exit_reason::user_shutdown);
}

}  // namespace troupe::bench
