// One thread of a simulated process: a loop of its own on a SimulatedLoop, so that many processes share one real
// thread and one virtual time, and each can be held (as by SIGSTOP), slowed down, or ended with all that it still had
// to do (as by SIGKILL: destroy it).
#pragma once
#include <boost/intrusive/list.hpp>

#include "runtime/actor/simulated_loop.h"

namespace troupe::actor {

class SimulatedThread final : public EventLoop {
 public:
  // The loop outlives it.
  explicit SimulatedThread(SimulatedLoop& loop);
  // Drops what has not run. REQUIRES: none of its jobs is on the stack.
  ~SimulatedThread() override;
  SimulatedThread(const SimulatedThread&) = delete;
  SimulatedThread& operator=(const SimulatedThread&) = delete;

  const Clock& clock() const override { return loop_.clock(); }
  bool runs_here() const override { return true; }
  void post(Job& job) override;
  void post(std::function<void()> callback) override;
  Timer after(std::chrono::nanoseconds delay, std::function<void()> callback) override;

  // Nothing runs until go_on(); what comes meanwhile waits, timers that are due with it.
  void hold() { held_ = true; }
  void go_on();
  bool held() const { return held_; }
  // How long each job takes; zero: no time at all.
  void set_pace(std::chrono::nanoseconds pace) { pace_ = pace; }

 private:
  struct Turn;
  // What it keeps of a timer, while that is set.
  class Held : public Timer::Entry,
               public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {};
  class TimerEntry;
  void schedule();
  void run_turn();

  SimulatedLoop& loop_;
  JobQueue ready_, running_;
  Turn* turn_;  // its place in the loop's queue
  bool held_ = false;
  std::chrono::nanoseconds pace_{0};
  boost::intrusive::list<Held, boost::intrusive::constant_time_size<false>> timers_;
};

}  // namespace troupe::actor
