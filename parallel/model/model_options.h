// The config sections that describe the model and its arithmetic.
#pragma once
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

// [parallel] tensor, pipeline, data, context, expert, zero, schedule, virtual_stages.
struct ParallelOptions {
  int tensor = 1, pipeline = 1, context = 1, expert = 1;
  std::optional<int> data = 1;  // none: "auto"
  int zero = 0;
  std::string schedule = "1f1b";
  int virtual_stages = 1;
};
ParallelOptions read_parallel_options(Config&);

// How many ranks a run has: `asked` where the command line says so (then the data axis is what the other axes leave of
// them), else the product of the axes. Sets options.data. Errors (usage): `asked` is no multiple of the other axes, or
// is not what parallel.data makes of them.
Result<int> resolve_ranks(ParallelOptions& options, std::optional<int> asked);

}  // namespace troupe::parallel
