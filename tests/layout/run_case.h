// What a case computes, on one rank or on its layout.
#pragma once
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "tests/layout/case.h"

namespace troupe::layout {

struct StepOutcome {
  double loss = 0, gradient_norm = 0;
  double balance_loss = 0, z_loss = 0, expert_load_entropy = 0;
  std::map<std::string, std::vector<double>> gradients;  // whole, by parameter
};

struct Outcome {
  std::vector<StepOutcome> steps;
  std::map<std::string, std::vector<double>> parameters;  // after the last step
  double validation_loss = 0;                             // then
  std::shared_ptr<const parallel::Routing> routing;       // of one rank, in training
  std::string error;                                      // what ended it
};

// What tokens are to be routed as; null: routers choose.
using Replayed = std::shared_ptr<const parallel::Routing>;

Outcome run_on_one_rank(const Case& of, const Replayed& replayed = {});
// This rank's part of a case that has as many ranks as the world. Throws CommunicationError.
Outcome run_in_world(const Case& of, parallel::Communicator& world, const Replayed& replayed = {});
// Ranks as threads. What differs between ranks that should agree is an error, and so is a collective that takes longer
// than `deadline`.
Outcome run_on_layout(const Case& of, const Replayed& replayed = {},
                      std::chrono::milliseconds deadline = std::chrono::seconds(60));

// "": they agree. Else the first difference that is more than rounding explains: step, quantity, both values.
std::string compare(const Outcome& layout, const Outcome& one, DType compute);
// The same in bf16, by the distance from what is exact.
std::string compare_distances(const Outcome& layout, const Outcome& one, const Outcome& exact);

}  // namespace troupe::layout
