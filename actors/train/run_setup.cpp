#include "actors/train/run_setup.h"

#include <algorithm>
#include <map>

namespace troupe::train {
namespace {

// Keys by which a run is itself: whole sections, but for some keys; or some keys of one.
bool makes_the_run(const std::string& key) {
  for (const char* exempt : {"model.dropout", "data.cache", "data.verify"}) {
    if (key == exempt) return false;
  }
  for (const char* one : {"train.seed", "train.sequence_length", "train.objective", "train.label_smoothing"}) {
    if (key == one) return true;
  }
  return key.starts_with("model.") || key.starts_with("data.") || key.starts_with("numerics.");
}

// Keys and values as Config::to_toml() writes them: each in one line, tables before their keys.
std::map<std::string, std::string> values_of(std::string_view toml) {
  std::map<std::string, std::string> values;
  std::map<std::string, int> tables;
  std::string table;
  while (!toml.empty()) {
    const std::string_view line = toml.substr(0, toml.find('\n'));
    toml.remove_prefix(std::min(toml.size(), line.size() + 1));
    const size_t equals = line.find(" = ");
    if (line.starts_with("[[")) {
      table = line.substr(2, line.size() - 4);
      table += fmt::format("[{}]", tables[table]++);
    } else if (line.starts_with("[")) {
      table = line.substr(1, line.size() - 2);
    } else if (equals != std::string_view::npos) {
      values[fmt::format("{}.{}", table, line.substr(0, equals))] = line.substr(equals + 3);
    }
  }
  return values;
}

std::string hex(uint64_t fingerprint) { return fmt::format("{:016x}", fingerprint); }

}  // namespace

bool was_trained_with(const checkpoint::Manifest& manifest, const data::Tokenizer& tokenizer) {
  const auto label = manifest.labels.find(std::string(kTokenizerLabel));
  return label != manifest.labels.end() && label->second == tokenizer.fingerprint();
}

Result<RunSetup> RunSetup::read(Config& config, const StopCheck& stop) {
  RunSetup setup;
  setup.options = TROUPE_TRY(read_run_config(config));
  setup.config = config.to_toml();
  setup.tokenizer = TROUPE_TRY(data::open_tokenizer(setup.options.data, stop));
  TROUPE_TRY(complete_model(setup.options, setup.tokenizer->vocabulary_size()));
  return setup;
}

Status RunSetup::open_data(const std::string& out, FileSystem& files, ThreadPool& threads,
                           const data::PrepareProgress& progress) {
  if (options.data.cache.empty()) options.data.cache = out + "/" + std::string(kTokensFolder);
  data.emplace(TROUPE_TRY(data::open_training_data(files, options.data, *tokenizer, options.train.sequence_length,
                                                   options.train.seed, threads, progress)));
  return {};
}

Result<parallel::Layout> RunSetup::layout(std::optional<int> ranks) const {
  const TrainOptions& train = options.train;
  return parallel::resolve_layout(options.parallel, ranks, options.model,
                                  {train.global_batch, train.sequence_length, train.micro_batch});
}

Status RunSetup::check_fits(const checkpoint::Checkpoint& checkpoint) const {
  const checkpoint::Manifest& manifest = checkpoint.manifest();
  if (!was_trained_with(manifest, *tokenizer)) {
    return damaged("{} was trained with another tokenizer than data.tokenizer = \"{}\" ({})", checkpoint.folder(),
                   options.data.tokenizer, tokenizer->description());
  }
  Config saved = TROUPE_TRY(Config::parse(manifest.config, checkpoint.folder() + "/manifest.json"));
  RunConfig theirs = TROUPE_TRY(read_run_config(saved));
  TROUPE_TRY(complete_model(theirs, tokenizer->vocabulary_size()));
  if (const std::string difference = first_difference(theirs.model, options.model); !difference.empty())
    return damaged("{} holds another model than the config: {}", checkpoint.folder(), difference);
  return {};
}

std::map<std::string, std::string> RunSetup::labels() const {
  return {{std::string(kTokenizerLabel), tokenizer->fingerprint()}, {std::string(kDataLabel), hex(data->fingerprint)}};
}

std::string RunSetup::differences_from(const checkpoint::Checkpoint& checkpoint) const {
  const checkpoint::Manifest& manifest = checkpoint.manifest();
  auto theirs = Config::parse(manifest.config, "");
  if (!theirs.ok() || !read_run_config(*theirs).ok()) return "";  // it does not fit
  const auto there = values_of(theirs->to_toml()), here = values_of(config);
  std::string found;
  const auto add = [&](std::string what) { found += (found.empty() ? "" : "; ") + std::move(what); };
  for (const auto& [key, value] : here) {
    const auto other = there.find(key);
    if (!makes_the_run(key) || (other != there.end() && other->second == value)) continue;
    add(fmt::format("{} is {} there, {} here", key, other == there.end() ? "not set" : other->second, value));
  }
  for (const auto& [key, value] : there) {
    if (makes_the_run(key) && !here.contains(key)) add(fmt::format("{} is {} there, not set here", key, value));
  }
  const auto label = manifest.labels.find(std::string(kDataLabel));
  if (found.empty() && label != manifest.labels.end() && label->second != hex(data->fingerprint))
    add("the text of data.train is another");
  return found;
}

}  // namespace troupe::train
