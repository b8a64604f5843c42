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

}  // namespace troupe::parallel
