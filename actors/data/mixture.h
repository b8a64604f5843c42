// Which dataset each sequence comes from, as a pure function of the sequence's number: weights become
// slots of a fixed period, and the slots are laid out so that in every prefix each dataset's count differs
// from its share by less than one sequence (earliest deadline first on one processor; Baruah, Cohen,
// Plaxton, Varvel, "Proportionate progress", 1996).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/result.h"

namespace troupe::data {

class Mixture {
 public:
  static constexpr int64_t kPeriod = 65536;

  // Shares are the weights over their sum, to 1 / kPeriod; none becomes 0.
  // Errors: usage (a weight that is not a positive number, more than 4096 of them).
  static Result<Mixture> create(std::span<const double> weights);

  struct Turn {
    int32_t dataset;
    int64_t index;  // of the sequences of this dataset, from 0
  };
  // REQUIRES: sequence ≥ 0.
  Turn turn(int64_t sequence) const;

  // Slots of a dataset in a period: its share times kPeriod.
  int64_t slots(int32_t dataset) const { return slots_[static_cast<size_t>(dataset)]; }

 private:
  std::vector<int64_t> slots_;
  std::vector<uint16_t> dataset_;  // [kPeriod]; empty with one dataset
  std::vector<uint32_t> before_;   // [kPeriod] earlier slots of the same dataset
};

}  // namespace troupe::data
