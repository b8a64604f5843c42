// How far a long job is: on a terminal one line rewritten in place, elsewhere plain lines that come more
// and more rarely. Time is injected; what is shown is decided here, where it goes by the caller.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/clock.h"

namespace troupe {

struct ProgressOutput {
  std::function<void(std::string_view)> write;
  bool terminal = false;         // rewrite one line with control codes
  std::function<int()> columns;  // asked before each line; none or ≤ 0: 80. Terminal only

  // A terminal if stderr is one. A failure to write is ignored.
  static ProgressOutput to_stderr();
  // Shows nothing.
  static ProgressOutput none();
};

// Decides when a line is due and writes it. Not thread-safe.
class ProgressLine {
 public:
  struct Options {
    double rewrite_seconds = 0.1;       // terminal: least time between two rewrites
    double first_plain_seconds = 1;     // plain: time from the first line to the second
    double plain_growth = 1.5;          // each wait is longer by this factor (1: fixed) …
    double longest_plain_seconds = 30;  // … up to this
  };

  // The clock must outlive it.
  ProgressLine(const Clock& clock, ProgressOutput output) : ProgressLine(clock, std::move(output), Options{}) {}
  ProgressLine(const Clock& clock, ProgressOutput output, Options options);
  // Leaves the cursor on a line of its own.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool due() const;
  // Joins the fields with two spaces; on a narrow terminal the last ones are left out. Ignores rate limits,
  // so ask due() first.
  void show(std::span<const std::string> fields);
  // Shows a last time, unless the last plain line said just that, and ends the line.
  void finish(std::span<const std::string> fields);

 private:
  const Clock& clock_;
  ProgressOutput output_;
  Options options_;
  double wait_seconds_;
  std::optional<double> shown_at_;
  std::string plain_;         // the last plain line
  bool line_stands_ = false;  // a terminal line without its end
};

// Work per second, older work weighing less and less (half after 10 s of it): settles after a change of
// speed, yet is calm. Not thread-safe.
class RateMeter {
 public:
  explicit RateMeter(const Clock& clock, double half_life_seconds = 10);
  // `done`: all work until now. 0 until time has passed.
  double update(double done);

 private:
  const Clock& clock_;
  double half_life_;
  double before_;
  double done_ = 0;
  double work_ = 0;
  double seconds_ = 0;
};

// step 120/2000  loss 2.3456  12.3K tokens/s  MFU 41.2%  ETA 1m05s
class TrainingProgress {
 public:
  // Starts after `first_step` steps of `total_steps` (a resumed run). The clock must outlive it.
  TrainingProgress(const Clock& clock, ProgressOutput output, int64_t first_step, int64_t total_steps,
                   ProgressLine::Options options = {});

  // After `step` steps in all. `mfu` is a fraction, not shown if ≤ 0 or no number.
  void update(int64_t step, double loss, int64_t tokens_of_step, double mfu);
  // Shows the last update and ends the line.
  void finish();

 private:
  ProgressLine line_;
  RateMeter steps_;
  RateMeter tokens_;
  int64_t first_step_;
  int64_t total_steps_;
  double total_tokens_ = 0;
  std::vector<std::string> fields_;
};

// tokenizing 120 MiB of 2.0 GiB (6%)  35.1 MiB/s  ETA 55s
class ByteProgress {
 public:
  // `total_bytes` ≤ 0: unknown. The clock must outlive it.
  ByteProgress(const Clock& clock, ProgressOutput output, std::string label, int64_t total_bytes,
               ProgressLine::Options options = {});

  // Adds to what is done. Thread-safe.
  void advance(int64_t bytes);
  // tokenizing 2.0 GiB in 58s, 35.3 MiB/s
  void finish();

 private:
  std::mutex mutex_;
  ProgressLine line_;
  RateMeter rate_;
  const Clock& clock_;
  double started_;
  std::string label_;
  int64_t total_bytes_;
  int64_t done_bytes_ = 0;
};

}  // namespace troupe
