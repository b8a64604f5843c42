// troupe bench actors: its figures as JSON, and a second process that never outlives the first.
#include <gtest/gtest.h>
#include <signal.h>

#include <boost/json.hpp>
#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include "runtime/base/result.h"
#include "tests/e2e/run_program.h"
#include "tests/sanitized.h"

namespace troupe::e2e {
namespace {

RunOptions patient() {
  RunOptions options;
  options.limit_seconds = 120;
  return options;
}

std::vector<pid_t> children_of(pid_t process) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", process));
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

// One that has ended and was not yet reaped does not live.
bool is_alive(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string stat;
  if (!std::getline(file, stat)) return false;
  const size_t state = stat.rfind(')') + 2;
  return state < stat.size() && stat[state] != 'Z';
}

TEST(BenchActors, EveryFigureIsInTheJsonWithItsGoal) {
  const Outcome outcome = run({"bench", "actors", "--json", "--scale", "0.001", "--repetitions", "1"}, patient());
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const boost::json::object json = boost::json::parse(outcome.out).as_object();
  std::map<std::string, boost::json::object> figures;
  for (const auto& figure : json.at("figures").as_array()) {
    figures[figure.at("name").as_string().c_str()] = figure.as_object();
  }
  for (const char* name : {"same-thread message", "cross-thread ask", "idle actor", "ask over tcp, from sleep"}) {
    ASSERT_TRUE(figures.contains(name)) << name;
    // A sanitizer's allocator does not tell how much is in use.
    if (!(kSanitized && name == std::string("idle actor")))
      EXPECT_GT(figures[name].at("median").as_double(), 0) << name;
    EXPECT_GT(figures[name].at("at_most").as_double(), 0) << name;
  }
  EXPECT_GT(figures.at("64 MiB buffers over tcp, spinning: ours to bare sockets").at("median").as_double(), 0);
  EXPECT_GT(figures.at("broadcast and gather over tcp, 16 nodes x 8 ranks").at("median").as_double(), 0);
  EXPECT_GT(figures.at("broadcast and gather over tcp, 16 nodes x 8 ranks: root's CPU a node").at("median").as_double(),
            0);
  // What needs UCX is there, or it is said why not.
  bool is_skipped = false;
  for (const auto& skipped : json.at("skipped").as_array()) {
    is_skipped |= skipped.at("name").as_string() == "ask over ucx, spinning" && !skipped.at("why").as_string().empty();
  }
  EXPECT_NE(figures.contains("ask over ucx, spinning"), is_skipped);
}

TEST(BenchActors, AnInterruptTakesTheSecondProcessWithIt) {
  RunningProgram program({"bench", "actors", "--scale", "0.01", "--repetitions", "20"}, patient());
  std::vector<pid_t> children;
  ASSERT_TRUE(program.wait_until([&] {
    children = children_of(program.pid());
    return !children.empty();
  })) << program.err();
  program.send(SIGINT);
  EXPECT_EQ(program.wait().signal, SIGINT);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (const pid_t child : children) {
    while (is_alive(child) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_FALSE(is_alive(child)) << "the second process lives on";
  }
}

}  // namespace
}  // namespace troupe::e2e
