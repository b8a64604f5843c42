// Time as a parameter: code that waits, rates or stamps takes a Clock, and its test a ManualClock.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

namespace troupe {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back; its zero means nothing.
  virtual std::chrono::nanoseconds now() const = 0;
  // The time of day, which may jump.
  virtual std::chrono::system_clock::time_point wall() const = 0;

  double seconds() const { return std::chrono::duration<double>(now()).count(); }
};

class SteadyClock : public Clock {
 public:
  std::chrono::nanoseconds now() const override { return std::chrono::steady_clock::now().time_since_epoch(); }
  std::chrono::system_clock::time_point wall() const override { return std::chrono::system_clock::now(); }
};

// Stands still until told to go on.
class ManualClock : public Clock {
 public:
  // Starts at `wall`, by default 2001-09-09 01:46:40 UTC (10^9 s).
  explicit ManualClock(std::chrono::system_clock::time_point wall =
                           std::chrono::system_clock::time_point(std::chrono::seconds(1'000'000'000)))
      : wall_(wall) {}

  std::chrono::nanoseconds now() const override { return std::chrono::nanoseconds(now_.load()); }
  std::chrono::system_clock::time_point wall() const override {
    return wall_ + std::chrono::duration_cast<std::chrono::system_clock::duration>(now());
  }
  void advance(std::chrono::nanoseconds by) { now_ += by.count(); }

 private:
  std::atomic<int64_t> now_{0};  // ns
  std::chrono::system_clock::time_point wall_;
};

}  // namespace troupe
