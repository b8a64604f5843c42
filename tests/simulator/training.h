// A training run under faults: the real head, agent and run folder, and a simulated host of ranks.
#pragma once
#include "tests/simulator/simulation.h"

namespace troupe::simulator {

// Ranks, heads and hosts die, stand still, are cut off, asked to stop, given up too early; disks are full, and
// checkpoints damaged; the run is resumed until it is done.
void run_generations(Simulation& simulation);

}  // namespace troupe::simulator
