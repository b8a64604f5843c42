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

}  // namespace troupe
