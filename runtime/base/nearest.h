// What to try instead of a value that breaks a rule.
#pragma once
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

// "2 or 4": the values nearest to `value`, below and above it, within [low, high], for which `holds` is true; "none".
// `value` itself counts. Cost: calls of `holds` up to the nearest, at most high − low + 1.
template <class Holds>
std::string nearest_where(int64_t value, int64_t low, int64_t high, Holds&& holds) {
  std::vector<int64_t> found;
  int64_t below = std::min(value, high), above = std::max(value, low);
  while (below >= low && !holds(below)) --below;
  while (above <= high && !holds(above)) ++above;
  if (below >= low) found.push_back(below);
  if (above <= high && above != below) found.push_back(above);
  return found.empty() ? "none" : fmt::format("{}", fmt::join(found, " or "));
}

// The same among the divisors of `n`.
inline std::string nearest_divisors(int64_t n, int64_t value) {
  return nearest_where(value, 1, n, [n](int64_t d) { return n % d == 0; });
}

}  // namespace troupe
