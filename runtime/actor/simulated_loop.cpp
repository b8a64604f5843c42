#include "runtime/actor/simulated_loop.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace troupe::actor {

class SimulatedLoop::TimerEntry final : public Timer::Entry {
 public:
  TimerEntry(SimulatedLoop& loop, Key key, std::function<void()> callback)
      : loop_(&loop), key_(key), callback_(std::move(callback)) {}

  void cancel() override {
    if (loop_ == nullptr) return;
    const auto callback = std::move(callback_);  // what it holds may cancel other timers
    const Key key = key_;                        // the map may hold the last pointer to this entry
    std::exchange(loop_, nullptr)->timers_.erase(key);
  }
  std::function<void()> take() {
    loop_ = nullptr;
    return std::move(callback_);
  }

 private:
  SimulatedLoop* loop_;  // null: has run or never will
  Key key_;
  std::function<void()> callback_;
};

SimulatedLoop::~SimulatedLoop() {
  while (!timers_.empty()) timers_.begin()->second->cancel();
  while (!ready_.empty()) ready_.pop().drop();
}

void SimulatedLoop::post(std::function<void()> callback) { post(*new CallbackJob(std::move(callback))); }

Timer SimulatedLoop::after(std::chrono::nanoseconds delay, std::function<void()> callback) {
  const Key key(clock_.now() + std::max(delay, std::chrono::nanoseconds(0)), timers_set_++);
  auto entry = std::make_shared<TimerEntry>(*this, key, std::move(callback));
  timers_.emplace(key, entry);
  return Timer(std::move(entry));
}

bool SimulatedLoop::run_one() {
  if (!ready_.empty()) {
    ready_.pop().run();
    return true;
  }
  if (timers_.empty() || timers_.begin()->first.first > clock_.now()) return false;
  const auto callback = timers_.begin()->second->take();
  timers_.erase(timers_.begin());
  callback();
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
