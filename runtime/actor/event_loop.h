// One thread's loop: what actors, links and timers run on. The real one (thread_loop.h) waits on the operating
// system; the simulated one (simulated_loop.h) jumps from event to event in virtual time, so the same code runs
// under both. Code on a loop never blocks.
#pragma once
#include <chrono>
#include <functional>
#include <memory>

#include "runtime/actor/job_queue.h"
#include "runtime/base/clock.h"

namespace troupe::actor {

// Cancels its callback when destroyed, unless it has run. Loop thread only.
class Timer {
 public:
  // What a loop keeps of it.
  class Entry {
   public:
    virtual ~Entry() = default;
    // The callback never runs, and what it holds is freed. Nothing where it has run.
    virtual void cancel() = 0;
  };

  Timer() = default;
  explicit Timer(std::shared_ptr<Entry> entry) : entry_(std::move(entry)) {}
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&& other) noexcept;
  ~Timer() { cancel(); }
  void cancel();

 private:
  std::shared_ptr<Entry> entry_;
};

class EventLoop {
 public:
  // `here`: where a job of the loop's own thread may be put without more ado; null: post() has more to do.
  explicit EventLoop(JobQueue* here = nullptr) : here_(here) {}
  virtual ~EventLoop() = default;
  virtual const Clock& clock() const = 0;
  // True on the loop's own thread.
  virtual bool runs_here() const = 0;
  // Runs the job once, after those posted before it from the same thread, never inside this call. Any thread;
  // wakes the loop.
  virtual void post(Job& job) = 0;
  virtual void post(std::function<void()> callback) = 0;
  // As post(), but only on the loop's thread, which makes it cheaper.
  void post_here(Job& job) {
    if (here_ != nullptr) here_->push(job);
    else post(job);
  }
  // Runs the callback when `delay` has passed, never inside this call. Loop thread only.
  virtual Timer after(std::chrono::nanoseconds delay, std::function<void()> callback) = 0;

 private:
  JobQueue* const here_;
};

}  // namespace troupe::actor
