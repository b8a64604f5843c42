// A loop wakes only the helpers it has work for, each through a ticket of its own; helpers wake further
// helpers as a tree, so that no thread wakes more than four. Between loops a worker spins for a while (a
// training step issues loops back to back), yielding the core in case the thread it waits for wants it,
// and then sleeps. A pool with more threads than cores never spins: it would only burn the time that the
// others need.
#include "runtime/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/cores.h"
#include "runtime/base/thread_name.h"

namespace troupe {
namespace {

constexpr int kFanOut = 4;
constexpr int kPauses = 64;                         // between two looks at the clock: 1–3 µs
constexpr std::chrono::microseconds kSpinTime{60};  // longer than the gap between two kernels of a step

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `ready` holds or it is time to sleep.
template <class Ready>
void spin_until(const Ready& ready) {
  for (int i = 0; i < kPauses; ++i) {
    if (ready()) return;
    pause();
  }
  const auto give_up = std::chrono::steady_clock::now() + kSpinTime;
  do {
    sched_yield();
    for (int i = 0; i < kPauses; ++i) {
      if (ready()) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
}

}  // namespace

struct ThreadPool::State {
  struct alignas(64) Worker {
    std::atomic<uint32_t> ticket{0};  // raised when this worker is wanted for a loop, or to stop
    std::thread thread;
  };

  int size = 1;
  bool spins = true;
  const std::function<void(int64_t, int)>* body = nullptr;
  int64_t count = 0;
  int helpers = 0;  // workers 1 … helpers take part in the present loop
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> running{0};  // helpers that have not finished the present loop
  std::atomic<bool> stopping{false};
  std::atomic<bool> busy{false};
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<Worker> workers;  // number 0, the caller, stays unused

  explicit State(int threads)
      : size(threads), spins(threads <= usable_cores()), workers(static_cast<size_t>(threads)) {}

  void wake(int worker) {
    std::atomic<uint32_t>& ticket = workers[static_cast<size_t>(worker)].ticket;
    ticket.fetch_add(1, std::memory_order_release);
    ticket.notify_one();
  }

  void wake_children(int thread) {
    for (int child = kFanOut * thread + 1; child <= std::min(helpers, kFanOut * (thread + 1)); ++child) wake(child);
  }

  void work(int thread) {
    try {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) (*body)(i, thread);
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  void run_worker(int thread) {
    std::atomic<uint32_t>& ticket = workers[static_cast<size_t>(thread)].ticket;
    for (uint32_t seen = 0;; ++seen) {
      if (spins) spin_until([&] { return ticket.load(std::memory_order_acquire) != seen; });
      ticket.wait(seen, std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      wake_children(thread);
      work(thread);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) {
  TROUPE_CHECK(threads >= 1, "a thread pool of {} threads", threads);
  state_ = std::make_unique<State>(threads);
  for (int i = 1; i < threads; ++i) {
    state_->workers[static_cast<size_t>(i)].thread = std::thread([s = state_.get(), i] {
      name_this_thread("pool");
      s->run_worker(i);
    });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  for (int i = 1; i < state_->size; ++i) state_->wake(i);
  for (int i = 1; i < state_->size; ++i) state_->workers[static_cast<size_t>(i)].thread.join();
}

int ThreadPool::size() const { return state_->size; }

void ThreadPool::parallel_for_thread(int64_t count, const std::function<void(int64_t, int)>& body) {
  State& s = *state_;
  if (count <= 0) return;
  TROUPE_CHECK(!s.busy.exchange(true), "a parallel loop was started inside another on the same pool");
  struct Release {
    std::atomic<bool>& busy;
    ~Release() { busy.store(false); }
  } release{s.busy};
  if (s.size == 1 || count == 1) {
    for (int64_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  s.body = &body;
  s.count = count;
  s.helpers = static_cast<int>(std::min<int64_t>(s.size, count)) - 1;
  s.next.store(0, std::memory_order_relaxed);
  s.running.store(s.helpers, std::memory_order_relaxed);
  s.wake_children(0);
  s.work(0);
  if (s.spins) spin_until([&] { return s.running.load(std::memory_order_acquire) == 0; });
  for (int left; (left = s.running.load(std::memory_order_acquire)) != 0;) {
    s.running.wait(left, std::memory_order_acquire);
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

void ThreadPool::parallel_for(int64_t count, const std::function<void(int64_t)>& body) {
  parallel_for_thread(count, [&](int64_t i, int) { body(i); });
}

void ThreadPool::parallel_ranges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t pieces = std::clamp<int64_t>(count / grain, 1, int64_t{4} * size());
  const int64_t length = (count + pieces - 1) / pieces;
  parallel_for((count + length - 1) / length, [&](int64_t i) { body(i * length, std::min(count, (i + 1) * length)); });
}

}  // namespace troupe
