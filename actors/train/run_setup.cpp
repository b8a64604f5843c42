#include "actors/train/run_setup.h"

namespace troupe::train {

Result<RunSetup> RunSetup::read(Config& config) {
  RunSetup setup;
  setup.options = TROUPE_TRY(read_run_config(config));
  setup.tokenizer = TROUPE_TRY(data::open_tokenizer(setup.options.data));
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

Status RunSetup::check_ranks(int64_t ranks) const {
  const TrainOptions& train = options.train;
  if (train.global_batch % ranks != 0) {
    const int64_t below = train.global_batch / ranks * ranks;
    return usage_error("train.global_batch = {} does not divide by {} ranks; nearest valid: {}{}", train.global_batch,
                       ranks, below > 0 ? fmt::format("{} or ", below) : std::string(), below + ranks);
  }
  const int64_t local = train.global_batch / ranks;
  if (train.micro_batch > 0 && local % train.micro_batch != 0) {
    return usage_error(
        "train.micro_batch = {} does not divide a rank's {} sequences (train.global_batch = {}, {} ranks)",
        train.micro_batch, local, train.global_batch, ranks);
  }
  return {};
}

Status RunSetup::check_fits(const checkpoint::Checkpoint& checkpoint) const {
  const checkpoint::Manifest& manifest = checkpoint.manifest();
  const auto label = manifest.labels.find(std::string(kTokenizerLabel));
  if (label == manifest.labels.end() || label->second != tokenizer->fingerprint()) {
    return damaged("{} was trained with another tokenizer than data.tokenizer = \"{}\" ({})", checkpoint.folder(),
                   options.data.tokenizer, tokenizer->description());
  }
  Config config = TROUPE_TRY(Config::parse(manifest.config, checkpoint.folder() + "/manifest.json"));
  RunConfig theirs = TROUPE_TRY(read_run_config(config));
  TROUPE_TRY(complete_model(theirs, tokenizer->vocabulary_size()));
  if (const std::string difference = first_difference(theirs.model, options.model); !difference.empty())
    return damaged("{} holds another model than the config: {}", checkpoint.folder(), difference);
  return {};
}

}  // namespace troupe::train
