// Scenarios of actors on several nodes: families that fail, clients that talk to them from everywhere, and a cluster
// whose nodes and links come and go.
#pragma once
#include "tests/simulator/simulation.h"

namespace troupe::simulator {

// Deep families whose members fail often, on few nodes.
void run_supervision(Simulation& simulation);
// Many nodes that join, leave and die, and are cut from each other.
void run_membership(Simulation& simulation);

}  // namespace troupe::simulator
