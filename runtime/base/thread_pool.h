// A fixed set of threads that run one parallel loop at a time. Each rank owns one; there is no global
// pool. The work is cut by index, never by thread, so a result must not depend on who computed what.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace troupe {

class ThreadPool {
 public:
  // `threads` ≥ 1 counts the caller: a pool of 1 starts no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(i) for every i in [0, count), on the caller and the pool's threads; returns when all
  // are done. Indices are handed out one by one, in order. The first exception that a body throws is
  // thrown here, after the loop has ended. Not reentrant: a body must not call the same pool.
  void parallel_for(int64_t count, const std::function<void(int64_t)>& body);

  // As above, with the number of the thread that runs, 0 ≤ thread < size(), for scratch memory.
  void parallel_for_thread(int64_t count, const std::function<void(int64_t index, int thread)>& body);

  // Cuts [0, count) into pieces of at least `grain` and calls body(begin, end) on each. Where the cuts
  // fall may depend on size(): only for bodies whose result per index does not depend on the piece.
  void parallel_ranges(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe
