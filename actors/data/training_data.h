// Everything between the [data] section and the training loop: files are listed, encoded or taken from
// the cache, split, mixed and checked.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/data/data_options.h"
#include "actors/data/prepare.h"
#include "actors/data/sampler.h"
#include "actors/data/tokenizer/tokenizer.h"
#include "actors/data/validation_set.h"
#include "runtime/base/file.h"
#include "runtime/base/result.h"
#include "runtime/base/thread_pool.h"

namespace troupe::data {

// The tokenizer that the options name; "characters" learns its vocabulary from all the data named there.
// Errors: usage, damaged (tokenizer.h, text_source.h), interrupted.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const DataOptions& options, const StopCheck& stop = {});

struct TrainingData {
  Sampler sampler;
  std::optional<ValidationSet> validation;  // none with validation_fraction = 0 and no path
  int64_t train_tokens = 0;
  uint64_t fingerprint = 0;  // of all tokens, in order, those held out included
};

// `sequence_length` T ≥ 1; `seed` decides the order. Blocks; calls `progress` once a batch for each dataset
// that is encoded. REQUIRES: options.cache names a folder.
// Errors: usage, one line that names the key of the config (missing or empty data, fewer tokens than a
// sequence needs); damaged, failed and interrupted as prepare.h says.
Result<TrainingData> open_training_data(FileSystem& file_system, const DataOptions& options, const Tokenizer& tokenizer,
                                        int64_t sequence_length, uint64_t seed, ThreadPool& pool,
                                        const PrepareProgress& progress = {});

}  // namespace troupe::data
