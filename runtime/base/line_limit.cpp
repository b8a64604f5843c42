#include "runtime/base/line_limit.h"

#include <fmt/format.h>

#include <utility>

namespace troupe {

std::optional<std::string> LineLimit::pass(std::chrono::nanoseconds now, std::string line) {
  const std::lock_guard lock(mutex_);
  if (passed_ == 0 || now - window_began_ >= window_) {
    window_began_ = now;
    passed_ = 0;
  }
  if (passed_ >= most_) {
    ++kept_back_;
    return std::nullopt;
  }
  ++passed_;
  if (const int64_t kept_back = std::exchange(kept_back_, 0); kept_back > 0)
    line += fmt::format(" (and {} more like it before)", kept_back);
  return line;
}

}  // namespace troupe
