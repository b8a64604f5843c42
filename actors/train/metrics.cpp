#include "actors/train/metrics.h"

#include <boost/json.hpp>
#include <map>

#include "runtime/base/json.h"

namespace troupe::train {
namespace {

// What counts of a step's lines.
struct Entry {
  int64_t generation = 0;
  double loss = 0;
  std::optional<double> validation_loss;
};

}  // namespace

std::string MetricsLine::to_json() const {
  JsonWriter line;
  line.begin_object()
      .field("step", step)
      .field("loss", loss)
      .field("tokens", tokens)
      .field("tokens_per_second", tokens_per_second)
      .field("step_seconds", step_seconds)
      .field("grad_norm", gradient_norm)
      .field("learning_rate", learning_rate)
      .field("mfu", mfu)
      .field("generation", generation);
  if (validation_loss) line.field("validation_loss", *validation_loss);
  if (validation_bits_per_byte) line.field("validation_bits_per_byte", *validation_bits_per_byte);
  if (balance_loss) line.field("balance_loss", *balance_loss);
  if (z_loss) line.field("z_loss", *z_loss);
  if (expert_load_entropy) line.field("expert_load_entropy", *expert_load_entropy);
  line.end_object();
  return line.text();
}

LossHistory read_loss_history(const std::string& path) {
  LossHistory history;
  const auto text = read_file(path);
  if (!text.ok()) return history;
  std::map<int64_t, Entry> by_step;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    boost::system::error_code error;
    const boost::json::value value = boost::json::parse(boost::json::string_view(line.data(), line.size()), error);
    const auto* object = error ? nullptr : value.if_object();
    const auto* step = object ? object->if_contains("step") : nullptr;
    const auto* loss = object ? object->if_contains("loss") : nullptr;
    if (!step || !loss || !step->is_int64() || !loss->is_number()) continue;
    const auto* generation = object->if_contains("generation");
    const int64_t of = generation && generation->is_int64() ? generation->get_int64() : 0;
    const auto [entry, added] = by_step.try_emplace(step->get_int64());
    if (!added && of < entry->second.generation) continue;
    const auto* validation = object->if_contains("validation_loss");
    entry->second = {of, loss->to_number<double>(), std::nullopt};
    if (validation && validation->is_number()) entry->second.validation_loss = validation->to_number<double>();
  }
  for (const auto& [step, entry] : by_step) {
    history.training.push_back({step, entry.loss});
    if (entry.validation_loss) history.validation.push_back({step, *entry.validation_loss});
  }
  return history;
}

}  // namespace troupe::train
