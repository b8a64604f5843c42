// Workers spin briefly between loops (a training step issues them back to back), then sleep on a futex.
#include "runtime/base/thread_pool.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

#include "runtime/base/check.h"

namespace troupe {
namespace {

constexpr int kSpins = 4000;  // ≈ 20–50 µs: longer than the gap between two kernels of a step

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  int size = 1;
  const std::function<void(int64_t, int)>* body = nullptr;
  int64_t count = 0;
  alignas(64) std::atomic<uint32_t> epoch{0};  // raised when a loop starts; workers wait on it
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<int> running{0};  // workers that have not finished the present loop
  std::atomic<bool> stopping{false};
  std::atomic<bool> busy{false};
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

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
    uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && epoch.load(std::memory_order_acquire) == seen; ++spin) pause();
      epoch.wait(seen, std::memory_order_acquire);
      seen = epoch.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      work(thread);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  TROUPE_CHECK(threads >= 1, "a thread pool of {} threads", threads);
  state_->size = threads;
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get(), i] { s->run_worker(i); });
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_acq_rel);
  state_->epoch.notify_all();
  for (auto& worker : state_->workers) worker.join();
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
  s.next.store(0, std::memory_order_relaxed);
  s.running.store(s.size - 1, std::memory_order_relaxed);
  s.epoch.fetch_add(1, std::memory_order_acq_rel);
  s.epoch.notify_all();
  s.work(0);
  for (int spin = 0;; ++spin) {
    const int left = s.running.load(std::memory_order_acquire);
    if (left == 0) break;
    if (spin < kSpins) pause();
    else s.running.wait(left, std::memory_order_acquire);
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
