// What a loop runs, and queues of it that are linked through the jobs themselves, so that posting one allocates
// nothing.
#pragma once
#include <atomic>
#include <functional>
#include <utility>

namespace troupe::actor {

// Work without an allocation: its owner keeps it alive until it has run or was dropped. In one queue at a time.
class Job {
 public:
  virtual void run() noexcept = 0;
  // Called instead of run() where the loop is destroyed first: frees what run() would have freed.
  virtual void drop() noexcept {}

 protected:
  ~Job() = default;

 private:
  friend class JobQueue;
  friend class JobInbox;
  Job* next_ = nullptr;
};

// First in, first out. One thread.
class JobQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  void push(Job& job) {
    job.next_ = nullptr;
    *(first_ == nullptr ? &first_ : &last_->next_) = &job;
    last_ = &job;
  }
  // REQUIRES: not empty.
  Job& front() const { return *first_; }
  Job& pop() {
    Job& job = *first_;
    first_ = job.next_;
    return job;
  }
  // Puts all of `others` behind its own.
  void append(JobQueue others) {
    if (others.empty()) return;
    *(first_ == nullptr ? &first_ : &last_->next_) = others.first_;
    last_ = others.last_;
  }
  JobQueue take() { return std::exchange(*this, JobQueue()); }

 private:
  friend class JobInbox;
  Job* first_ = nullptr;
  Job* last_ = nullptr;  // meaningless while empty
};

// Many threads push, one takes all: a stack that is turned round when it is taken (Treiber 1986). Jobs of one
// thread come out in the order they were pushed.
class JobInbox {
 public:
  bool empty() const { return top_.load() == nullptr; }
  // True where the inbox was empty: whoever takes may be asleep. Sequentially consistent: a thread that says
  // that it sleeps, and then finds the inbox empty, is seen asleep by the thread that pushes next.
  bool push(Job& job) {
    Job* top = top_.load(std::memory_order_relaxed);
    do job.next_ = top;
    while (!top_.compare_exchange_weak(top, &job));
    return top == nullptr;
  }
  JobQueue take() {
    JobQueue queue;
    if (top_.load(std::memory_order_relaxed) == nullptr) return queue;
    Job* job = top_.exchange(nullptr);
    queue.last_ = job;
    while (job != nullptr) {
      Job* below = job->next_;
      job->next_ = queue.first_;
      queue.first_ = job;
      job = below;
    }
    return queue;
  }

 private:
  std::atomic<Job*> top_{nullptr};
};

// A callback as a job; frees itself.
class CallbackJob final : public Job {
 public:
  explicit CallbackJob(std::function<void()> callback) : callback_(std::move(callback)) {}
  void run() noexcept override {
    callback_();
    delete this;
  }
  void drop() noexcept override { delete this; }

 private:
  std::function<void()> callback_;
};

}  // namespace troupe::actor
