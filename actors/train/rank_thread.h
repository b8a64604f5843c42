// The thread on which one rank computes: jobs one after the other, in order. Collectives and tensors of the rank are
// used on it alone.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "runtime/base/thread_name.h"

namespace troupe::train {

class RankThread {
 public:
  RankThread()
      : thread_([this] {
          name_this_thread("rank");
          run();
        }) {}
  // Waits for the job at hand; the others are dropped.
  ~RankThread() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      jobs_.clear();
    }
    wake_.notify_one();
    thread_.join();
  }

  // Any thread. Jobs do not throw.
  void post(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
      if (ending_) return;
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool ending_ = false;
  std::thread thread_;  // last: it starts when all else is there
};

}  // namespace troupe::train
