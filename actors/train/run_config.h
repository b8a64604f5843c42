// Everything that a config file says, section by section.
#pragma once
#include "actors/data/data_options.h"
#include "actors/train/train_options.h"
#include "parallel/mesh/layout_options.h"
#include "parallel/model/model_options.h"

namespace troupe::train {

struct RunConfig {
  parallel::DecoderConfig model;
  parallel::NumericsOptions numerics;
  parallel::LayoutOptions parallel;
  data::DataOptions data;
  TrainOptions train;
  CheckpointOptions checkpoint;
  MetricsOptions metrics;
};

// Reads all sections and rejects what is unknown. Errors: usage, one line with file and line.
Result<RunConfig> read_run_config(Config& config);

// Fits the model to its tokenizer and to the sequences it is trained on, and completes it.
// Errors (usage): a vocabulary smaller than the tokenizer's, a context shorter than the sequences.
Status complete_model(RunConfig& config, int64_t tokenizer_vocabulary);

// What makes the parameters of one completed model useless to another: "model.width is 32 there, 48 here",
// "there" being `saved`; the first of several, "" if there is none.
std::string first_difference(const parallel::DecoderConfig& saved, const parallel::DecoderConfig& wanted);

}  // namespace troupe::train
