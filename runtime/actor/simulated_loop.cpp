#include "runtime/actor/simulated_loop.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace troupe::actor {

// Keeps itself alive while it stands in the loop.
class SimulatedLoop::TimerEntry final : public Timer::Entry, public Job {
 public:
  TimerEntry(SimulatedLoop& loop, Key key, std::function<void()> callback)
      : loop_(&loop), key_(key), callback_(std::move(callback)) {}

  void keep(std::shared_ptr<TimerEntry> self) { self_ = std::move(self); }
  void cancel() override {
    if (loop_ == nullptr) return;
    loop_->timers_.erase(key_);
    drop();
  }
  void run() noexcept override {
    const auto self = std::move(self_);
    loop_ = nullptr;
    const auto callback = std::move(callback_);
    callback();
  }
  void drop() noexcept override {
    const auto self = std::move(self_);
    loop_ = nullptr;
    const auto callback = std::move(callback_);  // what it holds may cancel other timers
  }

 private:
  SimulatedLoop* loop_;  // null: has run or never will
  const Key key_;
  std::function<void()> callback_;
  std::shared_ptr<TimerEntry> self_;
};

SimulatedLoop::~SimulatedLoop() {
  // What is dropped may post its own farewell.
  while (!timers_.empty() || !ready_.empty()) {
    while (!timers_.empty()) timers_.extract(timers_.begin()).mapped()->drop();
    while (!ready_.empty()) ready_.pop().drop();
  }
}

void SimulatedLoop::post(std::function<void()> callback) { post(*new CallbackJob(std::move(callback))); }

SimulatedLoop::Key SimulatedLoop::key_after(std::chrono::nanoseconds delay) {
  const auto now = clock_.now(), longest = std::chrono::nanoseconds::max() - now;
  return {now + std::clamp(delay, std::chrono::nanoseconds(0), longest), timers_set_++};
}

Timer SimulatedLoop::after(std::chrono::nanoseconds delay, std::function<void()> callback) {
  const Key key = key_after(delay);
  auto entry = std::make_shared<TimerEntry>(*this, key, std::move(callback));
  entry->keep(entry);
  timers_.emplace(key, entry.get());
  return Timer(std::move(entry));
}

void SimulatedLoop::post_after(std::chrono::nanoseconds delay, Job& job) { timers_.emplace(key_after(delay), &job); }

bool SimulatedLoop::run_one() {
  if (!ready_.empty()) {
    ready_.pop().run();
    return true;
  }
  if (timers_.empty() || timers_.begin()->first.first > clock_.now()) return false;
  timers_.extract(timers_.begin()).mapped()->run();
  return true;
}

int64_t SimulatedLoop::run_until_idle(int64_t most) {
  int64_t count = 0;
  while (run_one()) TROUPE_CHECK(++count <= most, "still busy after {} jobs at one moment of virtual time", most);
  return count;
}

void SimulatedLoop::advance(std::chrono::nanoseconds duration) {
  const auto end = clock_.now() + duration;
  run_until_idle();
  while (!timers_.empty() && timers_.begin()->first.first <= end) advance_to_next();
  clock_.advance(end - clock_.now());
}

bool SimulatedLoop::advance_to_next() {
  if (timers_.empty()) return false;
  clock_.advance(std::max(timers_.begin()->first.first - clock_.now(), std::chrono::nanoseconds(0)));
  run_until_idle();
  return true;
}

}  // namespace troupe::actor
