// A loop in virtual time: one thread, one queue of events ordered by (time, order of posting). Nothing happens but
// inside run_until_idle() and advance(), and the same calls give the same run, to the event. Many nodes may share
// one; the simulator builds on it.
#pragma once
#include <cstdint>
#include <map>
#include <utility>

#include "runtime/actor/event_loop.h"
#include "runtime/actor/job_queue.h"

namespace troupe::actor {

// One thread; post() from others is a bug of the caller.
class SimulatedLoop final : public EventLoop {
 public:
  SimulatedLoop() : EventLoop(&ready_) {}
  // Drops what has not run.
  ~SimulatedLoop() override;
  SimulatedLoop(const SimulatedLoop&) = delete;
  SimulatedLoop& operator=(const SimulatedLoop&) = delete;

  const Clock& clock() const override { return clock_; }
  bool runs_here() const override { return true; }
  void post(Job& job) override { ready_.push(job); }
  void post(std::function<void()> callback) override;
  Timer after(std::chrono::nanoseconds delay, std::function<void()> callback) override;
  // Runs the job when `delay` has passed. It cannot be cancelled, and allocates no timer.
  void post_after(std::chrono::nanoseconds delay, Job& job);

  // Runs one job, or the timer that is due. False where nothing is left to do at this time.
  bool run_one();
  // Runs everything that can run at this time, without letting time pass. Returns how many jobs and timers ran.
  // REQUIRES: the code under test does not keep itself busy for ever; `most` turns that into a CheckFailure.
  int64_t run_until_idle(int64_t most = 100'000'000);
  // Lets time pass, event by event.
  void advance(std::chrono::nanoseconds duration);
  // Lets time pass until the next timer and runs it and what follows at that time. False: no timer is set.
  bool advance_to_next();

 private:
  class TimerEntry;
  using Key = std::pair<std::chrono::nanoseconds, uint64_t>;

  Key key_after(std::chrono::nanoseconds delay);

  ManualClock clock_;
  JobQueue ready_;
  std::map<Key, Job*> timers_;
  uint64_t timers_set_ = 0;
};

}  // namespace troupe::actor
