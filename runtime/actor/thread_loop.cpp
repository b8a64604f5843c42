#include "runtime/actor/thread_loop.h"

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

using std::chrono::nanoseconds;

// A loop with work looks at devices, sockets and timers this often.
constexpr nanoseconds kPollEvery = std::chrono::microseconds(50);
constexpr int kMostPatience = 256;
// Jobs that may run, together with those that they post, before other threads' are taken in.
constexpr int kRound = 64;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

class ThreadLoop::TimerEntry final : public Timer::Entry, public std::enable_shared_from_this<TimerEntry> {
 public:
  TimerEntry(boost::asio::io_context& io, std::function<void()> callback)
      : timer_(io), callback_(std::move(callback)) {}

  void start(nanoseconds delay) {
    timer_.expires_after(std::max(delay, nanoseconds(0)));
    timer_.async_wait([entry = shared_from_this()](const boost::system::error_code&) {
      if (const auto callback = std::exchange(entry->callback_, nullptr)) callback();
    });
  }
  void cancel() override {
    callback_ = nullptr;
    timer_.cancel();
  }

 private:
  boost::asio::steady_timer timer_;
  std::function<void()> callback_;  // empty: has run, or never will
};

ThreadLoop::ThreadLoop(ThreadLoopOptions options) : EventLoop(&ready_), options_(options), io_(1) {}

ThreadLoop::~ThreadLoop() {
  drop_all();
  io_.shutdown();
  drop_all();
}

void ThreadLoop::drop_all() {
  for (ready_.append(inbox_.take()); !ready_.empty(); ready_.append(inbox_.take())) ready_.pop().drop();
}

void ThreadLoop::run() {
  TROUPE_CHECK(thread_.exchange(std::this_thread::get_id()) == std::thread::id(), "one thread runs a loop");
  const auto keeps_waiting = boost::asio::make_work_guard(io_);
  io_.restart();
  while (true) {
    const bool stopping = stopped_.load();
    ready_.append(inbox_.take());
    const bool worked = run_ready(stopping ? 0 : kRound);
    if (stopping) break;
    if (worked) continue;
    if (poll_pollers()) take_turn();
    else if (!spin()) sleep();  // and to sleep is to ask the sockets
  }
  stopped_ = false;
  thread_ = std::thread::id();
}

// Runs what is ready and, as long as that makes less than `round` jobs, what it posts. False where there was nothing.
bool ThreadLoop::run_ready(int round) {
  if (ready_.empty()) return false;
  JobQueue batch = ready_.take();
  while (!batch.empty()) {
    batch.pop().run();
    take_turn();
    if (--round > 0 && batch.empty() && !stopped_.load(std::memory_order_relaxed)) batch = ready_.take();
  }
  return true;
}

// A look at the clock costs as much as a small job: the smaller the jobs, the more go between two looks.
void ThreadLoop::look() {
  const nanoseconds now = clock_.now();
  const bool late = now - polled_at_ >= kPollEvery;
  patience_ = late ? std::max(patience_ / 2, 1) : std::min(patience_ * 2, kMostPatience);
  countdown_ = patience_;
  if (late) poll_devices();
}

bool ThreadLoop::poll_pollers() {
  bool worked = false;
  for (size_t i = 0; i < pollers_.size(); ++i) worked |= pollers_[i]->poll();
  return worked || !ready_.empty();
}

bool ThreadLoop::poll_devices() {
  bool worked = poll_pollers();
  worked |= io_.poll() > 0;
  polled_at_ = clock_.now();
  return worked || !ready_.empty();
}

// True as soon as there is work, false when none came in time.
bool ThreadLoop::spin() {
  if (options_.spin <= nanoseconds(0)) return false;
  // Pollers cost some loads to ask, sockets a system call: those are asked less often.
  const int naps = pollers_.empty() ? 32 : 4;
  nanoseconds now = clock_.now();
  const nanoseconds end = now + options_.spin;
  do {
    for (int i = 0; i < naps; ++i) {
      if (!inbox_.empty() || stopped_.load(std::memory_order_relaxed)) return true;
      relax();
    }
    if (poll_pollers()) return true;
    now = clock_.now();
    if (now - polled_at_ > nanoseconds(2000) && poll_devices()) return true;
  } while (now < end);
  return false;
}

void ThreadLoop::sleep() {
  for (Poller* poller : pollers_) {
    if (!poller->arm()) return;
  }
  asleep_ = true;
  if (inbox_.empty() && !stopped_.load()) {
    sleeps_.fetch_add(1, std::memory_order_relaxed);
    io_.run_one();
    polled_at_ = clock_.now();
  }
  asleep_ = false;
}

void ThreadLoop::wake() {
  if (asleep_.load() && asleep_.exchange(false)) boost::asio::post(io_, [] {});
}

void ThreadLoop::stop() {
  stopped_ = true;
  wake();
}

void ThreadLoop::add_poller(Poller& poller) {
  pollers_.push_back(&poller);
  if (runs_here()) return;
  wake();
}

void ThreadLoop::remove_poller(Poller& poller) { std::erase(pollers_, &poller); }

void ThreadLoop::post(Job& job) {
  if (runs_here()) {
    ready_.push(job);
  } else if (inbox_.push(job)) {
    wake();
  }
}

void ThreadLoop::post(std::function<void()> callback) { post(*new CallbackJob(std::move(callback))); }

Timer ThreadLoop::after(nanoseconds delay, std::function<void()> callback) {
  TROUPE_CHECK(runs_here() || thread_.load() == std::thread::id(), "timers belong to their loop's thread");
  auto entry = std::make_shared<TimerEntry>(io_, std::move(callback));
  entry->start(delay);
  return Timer(std::move(entry));
}

}  // namespace troupe::actor
