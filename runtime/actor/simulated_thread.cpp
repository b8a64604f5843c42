#include "runtime/actor/simulated_thread.h"

namespace troupe::actor {

// Outlives its thread where it still stands in the loop.
struct SimulatedThread::Turn final : Job {
  explicit Turn(SimulatedThread& of) : thread(&of) {}
  void run() noexcept override {
    queued = false;
    if (thread == nullptr) delete this;
    else thread->run_turn();
  }
  void drop() noexcept override {
    queued = false;
    if (thread == nullptr) delete this;
  }
  SimulatedThread* thread;
  bool queued = false;
};

// First a timer of the loop, then, once due, a job of the thread; keeps itself alive meanwhile.
class SimulatedThread::TimerEntry final : public Held, public Job {
 public:
  explicit TimerEntry(std::function<void()> callback) : callback_(std::move(callback)) {}
  void begin(SimulatedThread& thread, std::chrono::nanoseconds delay, std::shared_ptr<TimerEntry> self) {
    self_ = std::move(self);
    timer_ = thread.loop_.after(delay, [this, &thread] {
      due_ = true;
      thread.post(*this);
    });
  }
  void cancel() override {
    const auto self = due_ ? nullptr : std::move(self_);  // where it is due, the queue still holds it
    forget();
  }
  void run() noexcept override {
    const auto self = std::move(self_);
    const auto callback = std::move(callback_);
    if (is_linked()) unlink();
    if (callback) callback();
  }
  void drop() noexcept override {
    const auto self = std::move(self_);
    forget();
  }

 private:
  void forget() {
    timer_.cancel();
    if (is_linked()) unlink();
    const auto callback = std::exchange(callback_, nullptr);  // what it holds may cancel other timers
  }
  std::function<void()> callback_;
  Timer timer_;
  bool due_ = false;
  std::shared_ptr<TimerEntry> self_;
};

SimulatedThread::SimulatedThread(SimulatedLoop& loop) : loop_(loop), turn_(new Turn(*this)) {}

SimulatedThread::~SimulatedThread() {
  held_ = true;
  turn_->thread = nullptr;
  if (!turn_->queued) delete turn_;
  // What is dropped may post and set timers.
  while (!timers_.empty() || !running_.empty() || !ready_.empty()) {
    if (!timers_.empty()) timers_.front().cancel();
    else (running_.empty() ? ready_ : running_).pop().drop();
  }
}

void SimulatedThread::post(Job& job) {
  ready_.push(job);
  schedule();
}

void SimulatedThread::post(std::function<void()> callback) { post(*new CallbackJob(std::move(callback))); }

Timer SimulatedThread::after(std::chrono::nanoseconds delay, std::function<void()> callback) {
  auto entry = std::make_shared<TimerEntry>(std::move(callback));
  timers_.push_back(*entry);
  entry->begin(*this, delay, entry);
  return Timer(std::move(entry));
}

void SimulatedThread::go_on() {
  held_ = false;
  if (!ready_.empty()) schedule();
}

void SimulatedThread::schedule() {
  if (held_ || turn_->queued) return;
  turn_->queued = true;
  if (pace_ > std::chrono::nanoseconds(0)) loop_.post_after(pace_, *turn_);
  else loop_.post(*turn_);
}

void SimulatedThread::run_turn() {
  if (held_) return;
  if (pace_ > std::chrono::nanoseconds(0)) {
    if (!ready_.empty()) ready_.pop().run();
  } else {
    running_ = ready_.take();
    while (!running_.empty()) running_.pop().run();
  }
  if (!ready_.empty()) schedule();
}

}  // namespace troupe::actor
