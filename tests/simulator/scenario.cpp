#include "tests/simulator/scenario.h"

#include "tests/simulator/cluster.h"
#include "tests/simulator/training.h"

namespace troupe::simulator {
namespace {

// Below that a seed tells too little.
constexpr int64_t kLeastMessages = 1000, kLeastFaults = 3;

constexpr Scenario kScenarios[] = {
    {"supervision", run_supervision}, {"membership", run_membership}, {"generations", run_generations}};

}  // namespace

std::span<const Scenario> scenarios() { return kScenarios; }

Outcome run_seed(uint64_t seed, const std::string& only, const std::function<void(const std::string&)>& trace) {
  const Scenario* scenario = &kScenarios[random_u64(seed, 0) % std::size(kScenarios)];
  for (const Scenario& named : kScenarios) {
    if (only == named.name) scenario = &named;
  }
  Simulation simulation(seed, trace);
  try {
    scenario->run(simulation);
  } catch (const std::exception& error) {
    simulation.violated("no exception", error.what());
  }
  const int64_t messages = simulation.network.counters().messages, faults = simulation.faults();
  simulation.require(messages >= kLeastMessages && faults >= kLeastFaults, "a seed is worth its time",
                     "{} messages, {} faults", messages, faults);
  return {scenario->name, simulation.violation(), messages, faults, simulation.network.fingerprint()};
}

}  // namespace troupe::simulator
