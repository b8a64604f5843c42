// The config sections that describe the model and its arithmetic.
#pragma once
#include "parallel/comm/communicator.h"
#include "parallel/model/decoder_config.h"
#include "parallel/model/parameter.h"
#include "runtime/base/config.h"

namespace troupe::parallel {

// [model]: a preset, and sizes that override it. The vocabulary may come from the tokenizer later:
// `complete()` is the caller's, once it is known. Errors are the config's, or name an unknown preset.
Result<DecoderConfig> read_model_options(Config&);

// [numerics] compute, residual, reproducible.
struct NumericsOptions {
  Numerics numerics;
  bool reproducible = false;
};
NumericsOptions read_numerics_options(Config&);

// [parallel] data, collective_deadline_seconds. The other keys (tensor, pipeline, context, expert, zero, schedule,
// virtual_stages) have one valid value each as long as ranks share nothing but data.
struct ParallelOptions {
  std::optional<int> data;  // none: it is not given, or "auto"
  // How long a rank waits for the others in one collective; then the group is aborted, naming who did not come.
  int collective_deadline_seconds = 300;

  CommunicatorOptions communicator() const { return {.deadline = std::chrono::seconds(collective_deadline_seconds)}; }
};
ParallelOptions read_parallel_options(Config&);

// How many ranks a run has: `asked` where the command line says so, else parallel.data, else one. Errors (usage): the
// two contradict each other.
Result<int> resolve_ranks(const ParallelOptions& options, std::optional<int> asked);

}  // namespace troupe::parallel
