#include "actors/train/run_config.h"

namespace troupe::train {

Result<RunConfig> read_run_config(Config& config) {
  RunConfig run;
  run.model = TROUPE_TRY(parallel::read_model_options(config));
  run.numerics = parallel::read_numerics_options(config);
  run.parallel = parallel::read_layout_options(config);
  run.data = data::read_data_options(config);
  run.train = read_train_options(config);
  run.checkpoint = read_checkpoint_options(config);
  run.metrics = read_metrics_options(config);
  TROUPE_TRY(config.finish());
  return run;
}

Status complete_model(RunConfig& config, int64_t tokenizer_vocabulary) {
  parallel::DecoderConfig& model = config.model;
  if (model.vocabulary == 0) model.vocabulary = tokenizer_vocabulary;
  if (model.vocabulary < tokenizer_vocabulary) {
    return usage_error(
        "model.vocabulary = {} is smaller than the tokenizer's {} tokens; leave it out, or take at least {}",
        model.vocabulary, tokenizer_vocabulary, tokenizer_vocabulary);
  }
  if (config.train.sequence_length > model.context) {
    return usage_error("train.sequence_length = {} is longer than model.context = {}", config.train.sequence_length,
                       model.context);
  }
  return model.complete();
}

std::string first_difference(const parallel::DecoderConfig& saved, const parallel::DecoderConfig& wanted) {
  using parallel::DecoderConfig;
  constexpr std::pair<std::string_view, int64_t DecoderConfig::*> kSizes[] = {
      {"vocabulary", &DecoderConfig::vocabulary}, {"layers", &DecoderConfig::layers},
      {"width", &DecoderConfig::width},           {"heads", &DecoderConfig::heads},
      {"kv_heads", &DecoderConfig::kv_heads},     {"head_width", &DecoderConfig::head_width},
      {"hidden", &DecoderConfig::hidden}};
  for (const auto& [name, size] : kSizes) {
    if (saved.*size != wanted.*size)
      return fmt::format("model.{} is {} there, {} here", name, saved.*size, wanted.*size);
  }
  if (saved.position == parallel::PositionKind::learned && saved.context != wanted.context)
    return fmt::format("model.context is {} there, {} here", saved.context, wanted.context);
  const std::pair<std::string_view, bool> kinds[] = {
      {"norm", saved.norm != wanted.norm},
      {"position", saved.position != wanted.position},
      {"mlp", saved.mlp != wanted.mlp},
      {"biases", saved.biases != wanted.biases},
      {"attention_biases", saved.attention_biases != wanted.attention_biases},
      {"tied", saved.tied != wanted.tied},
      {"qk_norm", saved.qk_norm != wanted.qk_norm}};
  for (const auto& [name, differs] : kinds) {
    if (differs) return fmt::format("model.{} is another there", name);
  }
  return "";
}

}  // namespace troupe::train
