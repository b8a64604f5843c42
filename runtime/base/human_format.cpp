#include "runtime/base/human_format.h"

#include <fmt/format.h>

#include <cmath>
#include <span>
#include <string_view>

namespace troupe {
namespace {

// Divides until the number, as it will be printed, has at most three digits before the unit grows.
std::string scaled(double number, double base, std::span<const std::string_view> units) {
  if (!std::isfinite(number)) return fmt::format("{}", number);
  size_t unit = 0;
  double magnitude = std::abs(number);
  const auto rounded = [&] {
    return unit == 0 || magnitude >= 99.95 ? std::round(magnitude) : std::round(10 * magnitude) / 10;
  };
  while (unit + 1 < units.size() && rounded() >= base) {
    magnitude /= base;
    ++unit;
  }
  const bool whole = unit == 0 || magnitude >= 99.95;
  return fmt::format("{}{:.{}f}{}", number < 0 ? "-" : "", magnitude, whole ? 0 : 1, units[unit]);
}

}  // namespace

std::string human_bytes(double bytes) {
  constexpr std::string_view units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  return scaled(bytes, 1024, units);
}

std::string human_count(double count) {
  constexpr std::string_view units[] = {"", "K", "M", "B", "T", "Q"};
  if (std::abs(count) >= 999.5e15) return fmt::format("{:.1e}", count);
  return scaled(count, 1000, units);
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 0.9995e-3) return fmt::format("{:.0f}us", seconds * 1e6);
  if (seconds < 0.9995) return fmt::format("{:.0f}ms", seconds * 1e3);
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  if (seconds < 59.5) return fmt::format("{:.0f}s", seconds);
  // From here on in whole units, so that 3,599.7 s is 1h00m and not 60m00s.
  const double minutes = std::round(seconds / 60), hours = std::round(seconds / 3600);
  const double whole = std::round(seconds);
  if (whole < 3600) return fmt::format("{:.0f}m{:02.0f}s", std::floor(whole / 60), std::fmod(whole, 60));
  if (minutes < 1440) return fmt::format("{:.0f}h{:02.0f}m", std::floor(minutes / 60), std::fmod(minutes, 60));
  return fmt::format("{:.0f}d{:02.0f}h", std::floor(hours / 24), std::fmod(hours, 24));
}

}  // namespace troupe
