#include "tests/layout/fuzz.h"

namespace troupe::layout {

namespace {

// In f32 a token whose experts are nearly equal goes to another where sums are taken in another order.
bool is_clear(const Case& c, const Outcome& one) {
  return c.compute != DType::f32 || one.routing == nullptr || one.routing->margin() >= 1e-5;
}

// With other data where that is not so.
Case draw_clear_case(uint64_t seed, DType compute) {
  Case c = draw_case(seed, compute);
  while (compute == DType::f32 && !is_clear(c, run_on_one_rank(c))) ++c.data_seed;
  return c;
}

}  // namespace

std::string try_case(const Case& c, std::chrono::milliseconds deadline) {
  if (c.compute != DType::bf16) {
    const Outcome one = run_on_one_rank(c);
    return is_clear(c, one) ? compare(run_on_layout(c, {}, deadline), one, c.compute) : "";
  }
  // In bf16 a router's scores are coarse: all go where one rank would send them.
  Case precise = c;
  precise.compute = DType::f64;
  const Outcome exact = run_on_one_rank(precise);
  return compare_distances(run_on_layout(c, exact.routing, deadline), run_on_one_rank(c, exact.routing), exact);
}

std::string try_seed(uint64_t seed, DType compute) {
  Case failing = draw_clear_case(seed, compute);
  std::string failure = try_case(failing);
  if (failure.empty()) return "";
  // Every simplification that still fails is kept, until none does.
  for (bool simpler = true; simpler;) {
    simpler = false;
    for (const Case& candidate : simpler_cases(failing)) {
      const std::string found = try_case(candidate);
      if (found.empty()) continue;
      failing = candidate;
      failure = found;
      simpler = true;
      break;
    }
  }
  return fmt::format("seed {}: {}\n  layout_fuzzer --case '{}'", seed, failure, failing.to_string());
}

}  // namespace troupe::layout
