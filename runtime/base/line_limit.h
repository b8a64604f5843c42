// Keeps a stranger from filling a terminal or a disk with lines: so many within a window, then none until it is over.
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

namespace troupe {

// Thread-safe.
class LineLimit {
 public:
  explicit LineLimit(int64_t lines = 5, std::chrono::nanoseconds window = std::chrono::seconds(10))
      : most_(lines), window_(window) {}

  // What to say at `now`, which never goes back: the line, with how many were kept back since the one before. None:
  // this one is kept back.
  std::optional<std::string> pass(std::chrono::nanoseconds now, std::string line);

 private:
  const int64_t most_;
  const std::chrono::nanoseconds window_;
  std::mutex mutex_;  // what follows
  std::chrono::nanoseconds window_began_{0};
  int64_t passed_ = 0;  // in this window
  int64_t kept_back_ = 0;
};

}  // namespace troupe
