// What a run is made of before its first step, the same for everyone who takes part in it: config, tokenizer, data.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "actors/data/training_data.h"
#include "actors/train/run_config.h"
#include "checkpoint/checkpoint.h"

namespace troupe::train {

// The label of a manifest under which the tokenizer's fingerprint stands.
inline constexpr std::string_view kTokenizerLabel = "tokenizer";
// The folder of the encoded data, in OUT.
inline constexpr std::string_view kTokensFolder = "tokens";

struct RunSetup {
  RunConfig options;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::optional<data::TrainingData> data;  // once open_data() has succeeded

  // Reads the whole config and opens the tokenizer; writes nothing. Errors: usage, damaged.
  static Result<RunSetup> read(Config& config);
  // Encodes the data, or takes them from the cache (by default in `out`, which exists). Errors: usage, damaged, failed;
  // interrupted if `progress` returns false.
  Status open_data(const std::string& out, FileSystem& files, ThreadPool& threads,
                   const data::PrepareProgress& progress = {});

  // Whether the batch divides among so many ranks. Errors (usage): the nearest that does.
  Status check_ranks(int64_t ranks) const;
  // Whether a whole checkpoint is this run's. Errors (damaged): another tokenizer, another model.
  Status check_fits(const checkpoint::Checkpoint& checkpoint) const;
};

}  // namespace troupe::train
