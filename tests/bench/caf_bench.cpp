// Actors beside CAF's (the C++ Actor Framework), in turn, in one run: ping-pong on one machine's threads, fan-in of
// four into one, and a round trip between two processes over TCP. CAF runs with one and two threads, and its better
// figure counts; so does ours with one and two loops. Both wait for messages as they do by default.
//
//   caf_bench [REPETITIONS [SCALE]]      scale: of the number of messages
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "launcher/commands/measure_actors.h"
#include "launcher/commands/measure_links.h"
#include "runtime/actor/thread_loop.h"
#include "runtime/base/process.h"
#include "tests/bench/caf_patterns.h"

namespace troupe::bench {
namespace {

using launcher::at_least;

Status compare(int repetitions, double scale) {
  const auto count = [&](double messages) { return static_cast<int64_t>(std::max(1.0, messages * scale)); };
  launcher::Figures figures(repetitions, true);
  const int64_t throws = count(2e5), each = count(1e5), asks = count(1000);
  TROUPE_TRY(figures.compare(
      {"ping-pong on one thread", "messages/s", {}, true}, [&] { return 1 / launcher::ping_pong(throws, 1); },
      {"CAF", [&] { return std::max(1 / caf_ping_pong(throws, 1), 1 / caf_ping_pong(throws, 2)); }, at_least(5)}));
  TROUPE_TRY(figures.compare({"fan-in 4 to 1", "messages/s", {}, true},
                             [&] { return std::max(launcher::fan_in(each, 1), launcher::fan_in(each, 2)); },
                             {"CAF", [&] { return std::max(caf_fan_in(each, 1), caf_fan_in(each, 2)); }, at_least(3)}));

  const auto spin = std::chrono::duration_cast<std::chrono::microseconds>(actor::ThreadLoopOptions().spin);
  const auto ours = TROUPE_TRY(launcher::LinkedPair::start({"tcp", spin}, {"peer"}));
  std::optional<ChildProcess> process;
  CafPair caf([&process](uint16_t port) {
    ProcessOptions options;
    options.arguments = {std::filesystem::read_symlink("/proc/self/exe").string(), "caf-peer", std::to_string(port)};
    options.death_signal = SIGKILL;
    auto started = ChildProcess::start(options);
    if (started.ok()) process.emplace(std::move(started).value());
  });
  return figures.compare({"round trip between processes, TCP", "us"},
                         [&]() -> Result<double> { return TROUPE_TRY(ours->round_trip(asks)) * 1e6; },
                         {"CAF", [&] { return caf.round_trip(asks) * 1e6; }, at_least(2.5)});
}

Status run(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "peer") return launcher::serve_link_peer();
  if (what == "caf-peer") return serve_caf_peer(static_cast<uint16_t>(std::atoi(argv[2]))), Status();
  return compare(argc > 1 ? std::max(std::atoi(argv[1]), 1) : 5, argc > 2 ? std::atof(argv[2]) : 1);
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  try {
    const troupe::Status status = troupe::bench::run(argc, argv);
    if (status.ok()) return 0;
    std::fprintf(stderr, "caf_bench: %s\n", status.error().message().c_str());
    return status.error().exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "caf_bench: %s\n", error.what());
    return 1;
  }
}
