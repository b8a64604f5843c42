// Asks to stop, heard without losing the step at hand: SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (Slurm's
// warning) set a flag that the loop polls; it finishes its step, saves and exits with 75. A second SIGINT
// means now: the process ends with 130.
#pragma once
#include <memory>
#include <string_view>

namespace troupe {

// While it lives, handles the three signals; afterwards they do what they did before. System calls that
// a signal interrupts go on (SA_RESTART). REQUIRES: one at a time in a process, as handlers are.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Thread-safe; one atomic load.
  bool stop_requested() const { return signal() != 0; }
  // The first signal that came, or 0.
  int signal() const;
  // "SIGINT", "SIGTERM", "SIGUSR1", or "" if none came.
  std::string_view signal_name() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Asks to say what the process does: SIGQUIT (Ctrl-\), which ends nothing while this lives. REQUIRES: one at a time.
class ReportSignal {
 public:
  ReportSignal();
  ~ReportSignal();
  ReportSignal(const ReportSignal&) = delete;
  ReportSignal& operator=(const ReportSignal&) = delete;

  // Blocks until one has come that was not waited for yet: true; or release() was called: false.
  bool wait();
  // Any thread: wait() returns from now on.
  void release();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe
