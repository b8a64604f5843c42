// What a seed runs: a scenario on a simulated cluster, and what came of it.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "tests/simulator/simulation.h"

namespace troupe::simulator {

struct Scenario {
  const char* name;
  void (*run)(Simulation&);
};
// Each seed draws one of them.
std::span<const Scenario> scenarios();

struct Outcome {
  std::string scenario;
  std::string violation;  // the first invariant that did not hold, and how; "": all held
  int64_t messages = 0;   // between processes
  int64_t faults = 0;     // done to processes and frames
  uint64_t fingerprint = 0;
};

// `only`: this scenario, whatever the seed draws; "": what it draws. `trace` is given every line of the run.
Outcome run_seed(uint64_t seed, const std::string& only = {},
                 const std::function<void(const std::string&)>& trace = {});

}  // namespace troupe::simulator
