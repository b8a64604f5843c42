#include "parallel/schedule/instruction.h"

#include <fmt/format.h>

#include <array>

namespace troupe::parallel {

std::string_view name_of(Action action) {
  constexpr std::array<std::string_view, 14> names{"forward",
                                                   "backward",
                                                   "send_activation",
                                                   "receive_activation",
                                                   "send_gradient",
                                                   "receive_gradient",
                                                   "gather_parameters",
                                                   "release_parameters",
                                                   "reduce_gradients",
                                                   "sum_tied_gradients",
                                                   "sum_expert_loads",
                                                   "sum_totals",
                                                   "update",
                                                   "inside"};
  return names[static_cast<size_t>(action)];
}

std::string Instruction::to_string() const {
  constexpr std::array<std::string_view, 3> phases{"", "start ", "finish "};
  constexpr std::array<std::string_view, 3> parts{"", " of inputs", " of weights"};
  std::string text(phases[static_cast<size_t>(phase)]);
  text += name_of(action);
  if (action == Action::backward) text += parts[static_cast<size_t>(part)];
  const auto add = [&](std::string_view what, int number) {
    if (number >= 0) text += fmt::format(", {} {}", what, number);
  };
  add("microbatch", microbatch);
  add("virtual stage", virtual_stage);
  add("unit", unit);
  add("bucket", bucket);
  if (!communicates()) return text;
  text += fmt::format(": {}", name_of(operation));
  if (elements > 0) text += fmt::format(" of {}", elements);
  if (is_message())
    text += fmt::format(" {} stage {} with tag {}", operation == OperationKind::send ? "to" : "from", peer, tag);
  else text += fmt::format(" in group \"{}\"", name_of(group));
  return text;
}

}  // namespace troupe::parallel
