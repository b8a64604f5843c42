// Measures what a mesh costs whose ranks are on linked nodes: a broadcast and a gather by the root, which sends each
// node one frame and gets few back.
#pragma once
#include <string>
#include <vector>

#include "launcher/commands/figures.h"

namespace troupe::launcher {

// `peer`: as in measure_links(). `scale`: of the number of rounds. Blocks.
Status measure_mesh(double scale, const std::vector<std::string>& peer, Figures& figures);

}  // namespace troupe::launcher
