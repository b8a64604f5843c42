// A test's own actor: it runs a coroutine given as a lambda, under virtual time.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/actor/node.h"
#include "runtime/actor/simulated_loop.h"
#include "runtime/actor/waiting.h"
#include "runtime/base/check.h"

namespace troupe::actor {

class Script : public Actor {
 public:
  using Body = std::function<Task<void>(Script&)>;
  Task<void> run(Body body) {
    co_await body(*this);
    finished_ = true;
  }
  Task<void> on_start() override {
    if (body_) co_await body_(*this);
    finished_ = true;
  }
  explicit Script(Body body = nullptr) : body_(std::move(body)) {}

  using Actor::child;
  using Actor::later;
  using Actor::name;
  using Actor::node;
  using Actor::now;
  using Actor::self;
  using Actor::sleep;
  using Actor::spawn;
  using Actor::stop;
  using Actor::stop_and_join;
  using Actor::supervise;
  using Actor::unwatch;
  using Actor::watch;

  void down(Down down) { downs.push_back(std::move(down)); }
  bool finished() const { return finished_; }

  std::vector<Down> downs;

 private:
  Body body_;
  bool finished_ = false;
};

// One node under virtual time.
struct World {
  SimulatedLoop loop;
  Node node{{.name = "n1"}, {&loop}};

  // Runs the coroutine as a handler of an actor of its own, for as much virtual time as it needs, up to `limit`.
  // True: it came to its end.
  bool run(Script::Body body, std::chrono::nanoseconds limit = std::chrono::seconds(100)) {
    bool ended = false;
    const auto script = node.spawn<Script>({.name = "script", .reentrant = true});
    const Status sent = script.try_tell<&Script::run>([&, body = std::move(body)](Script& self) -> Task<void> {
      co_await body(self);
      ended = true;
    });
    TROUPE_CHECK(sent.ok());
    const auto end = loop.clock().now() + limit;
    loop.run_until_idle();
    while (!ended && loop.clock().now() < end && loop.advance_to_next()) {
    }
    script.stop("the test is over");
    loop.run_until_idle();
    return ended;
  }
};

}  // namespace troupe::actor
