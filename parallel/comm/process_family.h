// What the groups of one world share on one host: the first reason why they are of no use any more, and a bell per
// process that wakes it when another has moved on. It lies in shared memory, so that an abort is seen by every
// process of the host at its next look; between hosts the engine carries it.
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "parallel/comm/shared_segment.h"

namespace troupe::parallel {

class ProcessFamily {
 public:
  static size_t bytes_for(int local_size);
  // local_rank: this process among those of its host. `context`: the family's own number (tags of abort messages).
  ProcessFamily(SharedSegment area, int local_rank, int local_size, int context);

  bool aborted() const;
  std::string reason() const;
  // The first reason stands, on this host; wakes its processes. Any thread.
  void abort(std::string_view reason) noexcept;
  // For whoever has waited past a deadline and could not abort: another was killed while it wrote its reason down, and
  // never will have.
  void abort_for_the_dead() noexcept;
  // True once on each host, after an abort: the caller carries it to the other hosts.
  bool claim_forwarding();

  // A process that sleeps says so first, looks once more at what it waits for, then sleeps: whoever moves on after
  // that look rings. Any thread.
  class Sleep;
  void ring(int local_rank) noexcept;
  void ring_all() noexcept;
  // Makes what was stored before visible to a sleeper's last look, or sees that it sleeps. Before ring().
  static void before_ringing() { std::atomic_thread_fence(std::memory_order_seq_cst); }

  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  int context() const { return context_; }

 private:
  struct Area;
  Area& area() const { return *reinterpret_cast<Area*>(segment_.data()); }

  SharedSegment segment_;
  int local_rank_, local_size_, context_;
};

// Between construction and until(), look again.
class ProcessFamily::Sleep {
 public:
  explicit Sleep(ProcessFamily& family);
  ~Sleep();
  Sleep(const Sleep&) = delete;
  Sleep& operator=(const Sleep&) = delete;
  // Returns when the bell has rung since construction, or after `most`, or for no reason.
  void for_at_most(std::chrono::microseconds most);

 private:
  ProcessFamily& family_;
  uint32_t seen_;
};

}  // namespace troupe::parallel
