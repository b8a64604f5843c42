// The [parallel] section of a config: the sizes of the mesh's axes, and how its ranks share their work.
#pragma once
#include <optional>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/layout.h"
#include "runtime/base/config.h"

namespace troupe::parallel {

struct LayoutOptions {
  // None: "auto", what the number of ranks leaves over. data is auto where no axis is given as that, the others are 1.
  std::optional<int> pipeline = 1, data, context = 1, tensor = 1;
  // None: as many as divide both the experts (an expert's hidden units) and the ranks of a stage that are left.
  std::optional<int> expert = 1, expert_tensor = 1;
  int zero = 0;
  std::optional<Schedule> schedule;  // none: 1f1b, or interleaved where there are virtual stages
  int virtual_stages = 1;
  // How long a rank waits for the others in one collective; then the group is aborted, naming who did not come.
  int collective_deadline_seconds = 300;

  CommunicatorOptions communicator() const { return {.deadline = std::chrono::seconds(collective_deadline_seconds)}; }
};

// Errors are the config's.
LayoutOptions read_layout_options(Config&);

// The layout of so many ranks; of as many as the axes make where none are asked for ("auto" is 1 then). Errors (usage),
// one line that names the keys: two axes are auto; the axes make another number of ranks, or one that does not divide
// it, or more than there can be. REQUIRES: config is complete.
Result<Layout> resolve_layout(const LayoutOptions& options, std::optional<int> ranks, const DecoderConfig& config);
// The same, and it keeps all rules (layout.h): what training runs on.
Result<Layout> resolve_layout(const LayoutOptions& options, std::optional<int> ranks, const DecoderConfig& config,
                              const StepShape& shape);

}  // namespace troupe::parallel
