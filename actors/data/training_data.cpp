#include "actors/data/training_data.h"

#include <xxhash.h>

#include <utility>

#include "actors/data/text_source.h"
#include "runtime/base/check.h"

namespace troupe::data {
namespace {

struct NamedPaths {
  std::string key;  // of the config
  std::vector<std::string> paths;
  double weight;
};

std::vector<NamedPaths> datasets_of(const DataOptions& options) {
  if (options.mixture.empty()) return {{"data.train", options.train, 1}};
  std::vector<NamedPaths> datasets;
  for (const MixtureEntry& entry : options.mixture) {
    datasets.push_back({fmt::format("data.mixture[{}]", datasets.size()), entry.path, entry.weight});
  }
  return datasets;
}

std::string names_of(const std::vector<std::string>& paths) {
  if (paths.empty()) return "no path";
  if (paths.size() == 1) return paths.front();
  return fmt::format("{} and {} more", paths.front(), paths.size() - 1);
}

TextOptions text_options(const DataOptions& options) {
  return {.field = options.field, .separator = options.separator};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const DataOptions& options, const StopCheck& stop) {
  std::vector<NamedPaths> datasets = datasets_of(options);
  if (!options.validation.empty()) datasets.push_back({"data.validation", options.validation, 1});
  std::vector<std::string> paths;
  for (const NamedPaths& dataset : datasets) paths.insert(paths.end(), dataset.paths.begin(), dataset.paths.end());

  // Opened only if the tokenizer asks for text.
  std::optional<TextSource> source;
  std::optional<Error> error;
  const auto next = [&]() -> Result<std::optional<Fragment>> {
    if (is_stopped(stop)) return Error(ErrorKind::interrupted, "stopped while it was learnt");
    if (!source) {
      std::vector<InputFile> files = TROUPE_TRY(list_inputs(paths));
      source = TROUPE_TRY(TextSource::create(std::move(files), text_options(options)));
    }
    return source->next();
  };
  const DocumentSource documents = [&]() -> std::optional<std::string_view> {
    if (error) return std::nullopt;
    Result<std::optional<Fragment>> fragment = next();
    if (!fragment.ok()) {
      error = std::move(fragment).error();
      return std::nullopt;
    }
    if (!*fragment) return std::nullopt;
    return (*fragment)->text;
  };
  Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(options.tokenizer, documents);
  if (error) return std::move(*error).within("data.tokenizer");
  if (!tokenizer.ok()) return std::move(tokenizer).error().within("data.tokenizer");
  return tokenizer;
}

Result<TrainingData> open_training_data(FileSystem& file_system, const DataOptions& options, const Tokenizer& tokenizer,
                                        int64_t sequence_length, uint64_t seed, ThreadPool& pool,
                                        const PrepareProgress& progress) {
  TROUPE_CHECK(!options.cache.empty());
  const PrepareOptions prepare_options{
      .text = text_options(options), .cache_folder = options.cache, .verify = options.verify};
  const DocumentOptions documents{.document_mask = options.document_mask,
                                  .restart_positions = options.restart_positions};
  std::vector<uint64_t> checksums;
  const auto tokens_of = [&](const NamedPaths& dataset) -> Result<TokenStream> {
    Result<PreparedTokens> prepared = prepare(file_system, dataset.paths, prepare_options, tokenizer, pool, progress);
    if (!prepared.ok()) return std::move(prepared).error().within(dataset.key);
    checksums.push_back(prepared->file->checksum());
    return TokenStream(prepared->file);
  };

  const bool split = options.validation.empty() && options.validation_fraction > 0;
  std::vector<WeightedStream> train;
  std::vector<TokenStream> held_out;
  int64_t train_tokens = 0;
  for (const NamedPaths& dataset : datasets_of(options)) {
    TokenStream stream = TROUPE_TRY(tokens_of(dataset));
    const int64_t all = stream.size();
    if (split) {
      auto [head, tail] = stream.split_tail(options.validation_fraction);
      stream = std::move(head);
      held_out.push_back(std::move(tail));
    }
    if (stream.size() < sequence_length + 1) {
      return usage_error("{} ({}) has {} tokens{}; train.sequence_length = {} needs at least {}", dataset.key,
                         names_of(dataset.paths), stream.size(),
                         split ? fmt::format(" of {} left to train on", all) : std::string(), sequence_length,
                         sequence_length + 1);
    }
    train_tokens += stream.size();
    train.push_back({std::move(stream), dataset.weight});
  }
  if (!options.validation.empty()) {
    held_out.push_back(TROUPE_TRY(tokens_of({"data.validation", options.validation, 1})));
  }
  std::optional<ValidationSet> validation;
  if (!held_out.empty()) {
    validation = TROUPE_TRY(ValidationSet::create(std::move(held_out), sequence_length, tokenizer, documents));
  }
  Sampler sampler = TROUPE_TRY(Sampler::create(
      std::move(train),
      {.sequence_length = sequence_length, .seed = seed, .sampling = options.sampling, .documents = documents}));
  return TrainingData{
      .sampler = std::move(sampler),
      .validation = std::move(validation),
      .train_tokens = train_tokens,
      .fingerprint = XXH3_64bits(checksums.data(), checksums.size() * sizeof(uint64_t)),
  };
}

}  // namespace troupe::data
