// What a run is made of before its first step, the same for everyone who takes part in it: config, tokenizer, data.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "actors/data/training_data.h"
#include "actors/train/run_config.h"
#include "checkpoint/checkpoint.h"

namespace troupe::train {

// The labels of a manifest under which the fingerprints of tokenizer and tokens stand.
inline constexpr std::string_view kTokenizerLabel = "tokenizer", kDataLabel = "data";
// Whether a checkpoint's model was trained with that tokenizer.
bool was_trained_with(const checkpoint::Manifest& manifest, const data::Tokenizer& tokenizer);
// The folder of the encoded data, in OUT.
inline constexpr std::string_view kTokensFolder = "tokens";

struct RunSetup {
  std::string config;  // resolved, TOML
  RunConfig options;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::optional<data::TrainingData> data;  // once open_data() has succeeded

  // Reads the whole config and opens the tokenizer; writes nothing. Errors: usage, damaged, interrupted.
  static Result<RunSetup> read(Config& config, const StopCheck& stop = {});
  // Encodes the data, or takes them from the cache (by default in `out`, which exists). Errors: usage, damaged, failed;
  // interrupted if `progress` returns false.
  Status open_data(const std::string& out, FileSystem& files, ThreadPool& threads,
                   const data::PrepareProgress& progress = {});

  // What a manifest says of this run, beside its config. REQUIRES: with the data.
  std::map<std::string, std::string> labels() const;
  // How the run is laid out on so many ranks; none: on as many as the axes make. Errors (usage): the rule that is
  // broken, and the nearest that keeps it.
  Result<parallel::Layout> layout(std::optional<int> ranks) const;
  // Whether a whole checkpoint is this run's. Errors (damaged): another tokenizer, another model.
  Status check_fits(const checkpoint::Checkpoint& checkpoint) const;
  // What makes going on from it another run than it was, though its tensors fit: "train.seed is 7 there, 8 here; …";
  // "": nothing. How long, how fast and on how many ranks it is trained is no such thing. REQUIRES: it fits; with the
  // data.
  std::string differences_from(const checkpoint::Checkpoint& checkpoint) const;
};

}  // namespace troupe::train
