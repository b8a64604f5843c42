// A group whose ranks are threads of one process. They read and write each other's tensors in place: an
// operation is a list of blocks that anybody may carry out once every rank has started it, so that a rank that
// waits does the work and a rank that computes on is not waited for. No thread of its own.
//
// Operations complete in the order they were started. Blocks are claimed with an atomic counter; who computes a
// block changes no bit of it (reduce.h).
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "parallel/comm/request.h"

namespace troupe::parallel {

class ThreadGroup;

// What the groups split from one another share: the first reason why they are of no use any more.
class ThreadFamily {
 public:
  bool aborted() const { return aborted_.load(); }
  std::string reason() const;
  // The first reason stands; wakes every waiter of every group.
  void abort(std::string_view reason) noexcept;
  void add(const std::shared_ptr<ThreadGroup>& group);

 private:
  std::atomic<bool> aborted_{false};
  mutable std::mutex mutex_;
  std::string reason_;
  std::vector<std::weak_ptr<ThreadGroup>> groups_;
};

// One operation of all ranks (of two, for send and receive).
struct ThreadOperation {
  struct Copy {
    const std::byte* from;
    std::byte* to;
    int64_t bytes;
  };

  ThreadOperation(Signature s, int size)
      : signature(s), requests(static_cast<size_t>(size)), present(requests.size()) {}

  Signature signature;
  const std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();  // by the first rank
  // requests[r] is written by rank r when it starts, read by all once ready, emptied by rank r when it has waited.
  std::vector<Request> requests;
  std::vector<char> present;  // guarded by the group's mutex
  int arrived = 0;            // likewise
  bool ready = false;         // likewise: every rank is here, blocks are known

  std::vector<Copy> copies;  // the blocks, where nothing is reduced
  int64_t blocks = 0;
  int64_t blocks_per_piece = 0;  // where something is
  std::atomic<int64_t> next{0};  // block to claim
  std::atomic<int64_t> left{0};  // blocks not done
  std::atomic<int> running{0};   // threads inside run()
  std::atomic<bool> complete{false};

  std::vector<std::shared_ptr<ThreadGroup>> groups;  // split: of each rank, null for none
  std::vector<int> ranks;                            // split: its rank there

  // REQUIRES: every rank is here.
  void plan();
  void run_block(int64_t block) const;
};

class ThreadGroup : public std::enable_shared_from_this<ThreadGroup> {
 public:
  ThreadGroup(int size, std::string name, CommunicatorOptions options, std::shared_ptr<ThreadFamily> family);

  // Registers rank's part. Throws CommunicationError on a mismatch or after an abort.
  std::shared_ptr<ThreadOperation> start(int rank, Request&& request);
  // Until complete; works on it and on what comes before it. Returns how long there was nothing to work on.
  std::chrono::nanoseconds wait(ThreadOperation& operation);
  // Rank has no more use for it: unfinished, that ends the group.
  void drop(int rank, ThreadOperation& operation) noexcept;
  // Rank starts nothing any more.
  void leave(int rank) noexcept;
  void wake() noexcept;
  // Communicator::under_way() of a rank.
  std::string under_way(int rank) const;

  int size() const { return size_; }
  const std::string& name() const { return name_; }
  const CommunicatorOptions& options() const { return options_; }
  ThreadFamily& family() { return *family_; }

 private:
  using Lock = std::unique_lock<std::mutex>;

  std::shared_ptr<ThreadOperation> enlist(int rank, Request& request, std::string& problem);
  std::shared_ptr<ThreadOperation> enlist_point_to_point(int rank, Request& request, std::string& problem);
  std::string pairs_differ(const ThreadOperation&) const;
  void make_groups(ThreadOperation&);
  bool work(ThreadOperation& operation);
  void settle(Lock&);
  void changed();
  bool sleep(uint32_t seen, std::chrono::steady_clock::time_point until);
  std::vector<std::string> absent(const ThreadOperation&, bool only_gone) const;
  static void quiesce(const ThreadOperation&);
  [[noreturn]] void give_up(ThreadOperation&);
  std::string failure(const ThreadOperation&) const;

  const int size_;
  const std::string name_;
  const CommunicatorOptions options_;
  const std::shared_ptr<ThreadFamily> family_;

  mutable std::mutex mutex_;
  std::condition_variable condition_;
  int sleepers_ = 0;
  std::atomic<uint32_t> version_{0};                    // moves with every change that a waiter may wait for
  std::deque<std::shared_ptr<ThreadOperation>> queue_;  // not complete; the first is number first_
  uint64_t first_ = 0;
  std::vector<uint64_t> started_;  // operations that each rank has started
  std::vector<char> gone_;
  std::vector<std::shared_ptr<ThreadOperation>> half_;  // sends and receives without their other half
};

}  // namespace troupe::parallel
