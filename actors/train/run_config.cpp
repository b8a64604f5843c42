#include "actors/train/run_config.h"

namespace troupe::train {

Result<RunConfig> read_run_config(Config& config) {
  RunConfig run;
  run.model = TROUPE_TRY(parallel::read_model_options(config));
  run.numerics = parallel::read_numerics_options(config);
  run.parallel = parallel::read_parallel_options(config);
  run.data = data::read_data_options(config);
  run.train = read_train_options(config);
  run.checkpoint = read_checkpoint_options(config);
  run.metrics = read_metrics_options(config);
  for (std::string_view section : {"rollout", "rl", "serve"}) config.ignore(section);
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

}  // namespace troupe::train
