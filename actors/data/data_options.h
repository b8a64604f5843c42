// The [data] section of a config: what to train on, and how sequences are drawn from it.
#pragma once
#include <string>
#include <vector>

#include "actors/data/sampler.h"
#include "runtime/base/config.h"

namespace troupe::data {

// One [[data.mixture]] table.
struct MixtureEntry {
  std::vector<std::string> path;  // files and folders, one dataset
  double weight = 1;              // its share of the sequences is weight over the sum of weights
};

struct DataOptions {
  std::vector<std::string> train;          // files and folders; or a mixture, not both
  std::vector<MixtureEntry> mixture;       //
  std::vector<std::string> validation;     // files and folders; none: the tail of the training data
  double validation_fraction = 0.05;       // of each dataset's tokens, where `validation` is empty; 0 for none
  std::string tokenizer = "bytes";         // "bytes", "characters" or a path (tokenizer.h)
  std::string field = "text";              // of JSON lines: a name or a template (json_field.h)
  std::string separator;                   // cuts text files into documents; "" takes each as one
  bool document_mask = false;              // a token sees nothing but its own document
  bool restart_positions = false;          // positions count from each document's first token
  Sampling sampling = Sampling::shuffled;  // "shuffled" or "random"
  std::string cache;                       // folder for encoded tokens; "" leaves the choice to the caller
  bool verify = true;                      // check every token of the cache before use
};

// Reads the section "data" of `config`, over the defaults above; errors come out of config.finish().
DataOptions read_data_options(Config& config);

}  // namespace troupe::data
