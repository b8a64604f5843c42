#include "actors/data/data_options.h"

#include "actors/data/json_field.h"

namespace troupe::data {

DataOptions read_data_options(Config& config) {
  DataOptions options;
  ConfigSection section = config.section("data");
  section.read("train", options.train)
      .read("validation", options.validation)
      .read("validation_fraction", options.validation_fraction, at_least(0) & below(1))
      .read("tokenizer", options.tokenizer)
      .read("field", options.field)
      .read("separator", options.separator)
      .read("document_mask", options.document_mask)
      .read("restart_positions", options.restart_positions)
      .read_choice("sampling", options.sampling, {{"shuffled", Sampling::shuffled}, {"random", Sampling::random}})
      .read("cache", options.cache)
      .read("verify", options.verify);
  for (ConfigSection& table : section.tables("mixture")) {
    MixtureEntry entry;
    table.read("path", entry.path, required()).read("weight", entry.weight, above(0));
    options.mixture.push_back(std::move(entry));
  }
  if (!options.train.empty() && !options.mixture.empty()) {
    config.reject("data.train", "data.train stands beside data.mixture; give one of the two");
  } else if (options.train.empty() && options.mixture.empty()) {
    config.reject("data.train", "data.train names no data; give a path, a list of paths, or [[data.mixture]] tables");
  }
  if (const auto field = JsonField::parse(options.field); !field.ok()) {
    config.reject("data.field", "data.field: " + field.error().message());
  }
  return options;
}

}  // namespace troupe::data
