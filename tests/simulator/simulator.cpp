// troupe_simulator: runs seeds, and says which of them break an invariant and how to see it again. Exit code 1 where
// one does.
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <map>

#include "tests/simulator/scenario.h"

namespace troupe::simulator {
namespace {

int run(int argc, char** argv) {
  CLI::App app("Runs Troupe's actors in virtual time, under faults that seeds draw.");
  std::string seeds, only;
  int64_t seed = -1;
  bool trace = false, keep_going = false;
  std::vector<std::string> names;
  for (const Scenario& scenario : scenarios()) names.emplace_back(scenario.name);
  app.add_option("--seeds", seeds, "A:B runs seeds A to B - 1");
  app.add_option("--seed", seed, "replays one seed");
  app.add_option("--scenario", only, "this one, whatever the seed draws")->check(CLI::IsMember(names));
  app.add_flag("--trace", trace, "prints what happens");
  app.add_flag("--keep-going", keep_going, "goes on after a violation");
  CLI11_PARSE(app, argc, argv);

  uint64_t first = static_cast<uint64_t>(seed), end = first + 1;
  if (seed < 0 && std::sscanf(seeds.c_str(), "%lu:%lu", &first, &end) != 2) {
    fmt::print(stderr, "troupe_simulator: give --seeds A:B or --seed N\n");
    return 2;
  }
  std::function<void(const std::string&)> print;
  if (trace) print = [](const std::string& line) { fmt::print("{}\n", line); };
  const auto begun = std::chrono::steady_clock::now();
  int64_t messages = 0, faults = 0, violations = 0;
  std::map<std::string, int64_t> drawn;
  for (uint64_t at = first; at < end; ++at) {
    const Outcome outcome = run_seed(at, only, print);
    ++drawn[outcome.scenario];
    messages += outcome.messages;
    faults += outcome.faults;
    if (seed >= 0) {
      fmt::print("seed {}: {}, {} messages, {} faults, fingerprint {:016x}\n", at, outcome.scenario, outcome.messages,
                 outcome.faults, outcome.fingerprint);
    }
    if (outcome.violation.empty()) continue;
    ++violations;
    fmt::print("seed {}: {}; replay with troupe_simulator --seed {} --trace{}\n", at, outcome.violation, at,
               only.empty() ? "" : " --scenario " + only);
    std::fflush(stdout);
    if (!keep_going) break;
  }
  std::vector<std::string> shares;
  for (const auto& [scenario, count] : drawn) shares.push_back(fmt::format("{} of {}", count, scenario));
  fmt::print("{} seeds ({}), {} messages, {} faults, {} violations, {:.1f} s\n", end - first, fmt::join(shares, ", "),
             messages, faults, violations,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  return violations == 0 ? 0 : 1;
}

}  // namespace
}  // namespace troupe::simulator

int main(int argc, char** argv) { return troupe::simulator::run(argc, argv); }
