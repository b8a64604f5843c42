// What one rank's thread does, phase by phase: for a trace afterwards, and at this moment for whoever asks.
#pragma once
#include <atomic>
#include <string>

#include "runtime/base/clock.h"
#include "runtime/base/trace.h"

namespace troupe::train {

class RankActivity {
 public:
  // Both outlive it. `trace` null: phases are told to nobody.
  explicit RankActivity(const Clock& clock, TraceSink* trace = nullptr) : clock_(clock), trace_(trace) {}

  // The rank's thread only.
  void set_step(int64_t step) { step_.store(step, std::memory_order_relaxed); }
  // Any thread: "step 38: backward for 0.8 s"; "idle for 3.0 s" between two plans.
  std::string describe() const;

 private:
  friend class Phase;
  void enter(const char* phase, std::chrono::nanoseconds now);

  const Clock& clock_;
  TraceSink* const trace_;
  std::atomic<int64_t> step_{0};
  std::atomic<const char*> phase_{nullptr};  // the innermost
  std::atomic<std::chrono::nanoseconds> since_{std::chrono::nanoseconds(0)};
};

// From here to the end of the block the rank's thread is in that phase. Phases nest.
class [[nodiscard]] Phase {
 public:
  // `name` is a literal. `activity` null: nobody wants to know.
  Phase(RankActivity* activity, const char* name);
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

 private:
  RankActivity* const activity_;
  const char* name_;
  const char* outer_ = nullptr;
  std::chrono::nanoseconds begin_{0};
};

}  // namespace troupe::train
