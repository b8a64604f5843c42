// What a cell owes to those outside: it is complete when it is found, and survives what its actor throws.
#include "runtime/actor/cell.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/actor/threaded_node.h"
#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Throws before there is a coroutine, wherever it is told to.
class Thrower : public Actor {
 public:
  explicit Thrower(std::string where) : where_(std::move(where)) {}
  Task<void> on_start() override { return throws("on_start"); }
  Task<void> on_stop() override { return throws("on_stop"); }
  Task<int> handler() {
    (void)throws("handler");
    return {};
  }

 private:
  Task<void> throws(const char* place) {
    if (place == where_) throw std::runtime_error("out of luck");
    return {};
  }
  std::string where_;
};

struct Failures {
  SimulatedLoop loop;
  std::vector<std::string> heard;
  Node node{{.name = "n1", .on_failure = [this](const Down& down) { heard.push_back(down.cause->message()); }},
            {&loop}};
};

TEST(Cell, WhatIsThrownWithoutACoroutineIsTheActorsDeath) {
  for (const char* place : {"on_start", "on_stop", "handler"}) {
    Failures world;
    const auto thrower = world.node.spawn<Thrower>({.name = "x"}, place);
    world.loop.run_until_idle();
    if (place == std::string("handler")) EXPECT_TRUE(thrower.try_tell<&Thrower::handler>().ok());
    world.loop.run_until_idle();
    thrower.stop("enough");
    world.loop.run_until_idle();
    EXPECT_EQ(world.node.living(), 0);
    ASSERT_EQ(world.heard.size(), 1u) << place;
    EXPECT_THAT(world.heard[0], HasSubstr(fmt::format("{}: out of luck", place)));
  }
}

TEST(Cell, AHandlerThatReturnsNoTaskIsAFailure) {
  Failures world;
  const auto thrower = world.node.spawn<Thrower>({.name = "x"}, "nowhere");
  EXPECT_TRUE(thrower.try_tell<&Thrower::handler>().ok());
  world.loop.run_until_idle();
  ASSERT_EQ(world.heard.size(), 1u);
  EXPECT_THAT(world.heard[0], HasSubstr("x (node n1) failed: in Thrower::handler"));
  EXPECT_THAT(world.heard[0], HasSubstr("the handler returned no task"));
}

class Plain : public Actor {
 public:
  int value() { return 1; }
};

TEST(Cell, IsCompleteAsSoonAsItsNameIsFound) {
  ThreadedNode node({}, 2);
  std::atomic<bool> end{false};
  std::atomic<int64_t> found{0};
  std::thread finder([&] {
    while (!end) {
      if (node->lookup<Plain>("plain").ok()) ++found;
    }
  });
  for (int i = 0; i < 3000 || found == 0; ++i) node->spawn<Plain>({.loop = i % 2, .registered = "plain"}).stop("next");
  end = true;
  finder.join();
  EXPECT_GT(found, 0);
  EXPECT_TRUE(node->stop_blocking(20s).ok());
}

TEST(Cell, ANodeMayStopWhileActorsAreSpawned) {
  for (int round = 0; round < 20; ++round) {
    ThreadedNode node({}, 2);
    std::thread spawner([&] {
      try {
        for (int i = 0; i < 100; ++i) node->spawn<Plain>({.loop = i % 2});
      } catch (const CheckFailure&) {
      }
    });
    std::this_thread::yield();
    EXPECT_TRUE(node->stop_blocking(20s).ok());
    spawner.join();
    EXPECT_EQ(node->living(), 0);
  }
}

}  // namespace
}  // namespace troupe::actor
