#include "parallel/comm/thread_group.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <map>
#include <thread>

namespace troupe::parallel {
namespace {

// A change of hands between two running threads takes less than a microsecond, a sleep and a wake-up five to fifty.
// Where every rank can have a core, a waiter looks for this long before it sleeps.
constexpr std::chrono::microseconds kThreadSpin{30};

}  // namespace

std::string ThreadFamily::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void ThreadFamily::abort(std::string_view reason) noexcept {
  std::vector<std::weak_ptr<ThreadGroup>> groups;
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
    try {
      reason_ = reason;
    } catch (...) {  // no memory for the reason: end without it
    }
    aborted_ = true;
    groups.swap(groups_);
  }
  for (const auto& group : groups) {
    if (const auto alive = group.lock()) alive->wake();
  }
}

void ThreadFamily::add(const std::shared_ptr<ThreadGroup>& group) {
  const std::lock_guard lock(mutex_);
  std::erase_if(groups_, [](const auto& weak) { return weak.expired(); });
  groups_.push_back(group);
}

ThreadGroup::ThreadGroup(int size, std::string name, CommunicatorOptions options, std::shared_ptr<ThreadFamily> family)
    : size_(size),
      name_(std::move(name)),
      options_(options),
      family_(std::move(family)),
      started_(static_cast<size_t>(size)),
      gone_(static_cast<size_t>(size)) {}

std::shared_ptr<ThreadOperation> ThreadGroup::start(int rank, Request&& request) {
  const Signature signature = request.signature;
  std::string problem;
  std::shared_ptr<ThreadOperation> operation;
  if (!family_->aborted()) {
    Lock lock(mutex_);
    operation = is_point_to_point(signature.kind) ? enlist_point_to_point(rank, request, problem)
                                                  : enlist(rank, request, problem);
    if (problem.empty()) settle(lock);
  }
  if (!problem.empty()) {
    family_->abort(problem);
    quiesce(*operation);
  }
  if (!operation || !problem.empty()) throw CommunicationError(failure(ThreadOperation(signature, 0)));
  return operation;
}

// The operation of this number, with rank's part. REQUIRES: mutex_ held.
std::shared_ptr<ThreadOperation> ThreadGroup::enlist(int rank, Request& request, std::string& problem) {
  const auto r = static_cast<size_t>(rank);
  const auto at = static_cast<size_t>(started_[r]++ - first_);
  if (at == queue_.size()) queue_.push_back(std::make_shared<ThreadOperation>(request.signature, size_));
  const std::shared_ptr<ThreadOperation> operation = queue_[at];
  if (operation->signature != request.signature) {
    const auto first = std::ranges::find(operation->present, 1) - operation->present.begin();
    problem = mismatch(name_, static_cast<int>(first), operation->signature, rank, request.signature);
    return operation;
  }
  operation->requests[r] = std::move(request);
  operation->present[r] = 1;
  if (++operation->arrived < size_) return operation;
  problem = pairs_differ(*operation);
  if (!problem.empty()) {  // its caller gets no Pending that would let go of the tensors
    operation->requests[r].in_tensor = operation->requests[r].out_tensor = {};
    return operation;
  }
  if (operation->signature.kind == OperationKind::split) make_groups(*operation);
  operation->plan();
  operation->ready = true;
  return operation;
}

// requests[0] is the sender's part, requests[1] the receiver's. REQUIRES: mutex_ held.
std::shared_ptr<ThreadOperation> ThreadGroup::enlist_point_to_point(int rank, Request& request, std::string& problem) {
  const bool sends = request.signature.kind == OperationKind::send;
  const size_t mine = sends ? 0 : 1;
  // A part's `color` is unused here: it keeps the rank that the part belongs to.
  request.color = rank;
  const auto other = std::ranges::find_if(half_, [&](const auto& half) {
    const Request& theirs = half->requests[1 - mine];
    return half->present[1 - mine] && theirs.color == request.peer && theirs.peer == rank && theirs.tag == request.tag;
  });
  const bool found = other != half_.end();
  const auto operation = found ? *other : std::make_shared<ThreadOperation>(request.signature, 2);
  if (found) {
    Signature theirs = operation->signature;
    theirs.kind = request.signature.kind;
    if (theirs != request.signature) {
      problem = mismatch(name_, request.peer, operation->signature, rank, request.signature);
      return operation;
    }
    half_.erase(other);
  }
  operation->requests[mine] = std::move(request);
  operation->present[mine] = 1;
  if (++operation->arrived < 2) {
    half_.push_back(operation);
    return operation;
  }
  operation->plan();
  operation->ready = true;
  operation->complete = operation->blocks == 0;
  changed();
  return operation;
}

// What a sender gives and a receiver expects has to be the same, pair by pair.
std::string ThreadGroup::pairs_differ(const ThreadOperation& operation) const {
  if (operation.signature.kind != OperationKind::all_to_all) return {};
  for (size_t from = 0; from < operation.requests.size(); ++from) {
    for (size_t to = 0; to < operation.requests.size(); ++to) {
      const auto& sent = operation.requests[from].send_offsets;
      const auto& wanted = operation.requests[to].receive_offsets;
      const int64_t sends = sent[to + 1] - sent[to];
      const int64_t takes = wanted[from + 1] - wanted[from];
      if (sends != takes)
        return pair_differs(name_, operation.signature, static_cast<int>(from), sends, static_cast<int>(to), takes);
    }
  }
  return {};
}

void ThreadGroup::make_groups(ThreadOperation& operation) {
  const auto n = static_cast<size_t>(size_);
  operation.groups.resize(n);
  operation.ranks.resize(n);
  std::map<int, std::vector<std::pair<int, size_t>>> members;  // color → (key, rank), sorted
  for (size_t r = 0; r < n; ++r) {
    const Request& request = operation.requests[r];
    if (request.color >= 0) members[request.color].emplace_back(request.key, r);
  }
  for (auto& [color, ranks] : members) {
    std::ranges::sort(ranks);
    const auto group = std::make_shared<ThreadGroup>(static_cast<int>(ranks.size()),
                                                     operation.requests[ranks[0].second].name, options_, family_);
    family_->add(group);
    for (size_t i = 0; i < ranks.size(); ++i) {
      operation.groups[ranks[i].second] = group;
      operation.ranks[ranks[i].second] = static_cast<int>(i);
    }
  }
}

// Takes finished operations off the head of the queue. REQUIRES: the lock is held.
void ThreadGroup::settle(Lock&) {
  bool moved = false;
  while (!queue_.empty() && queue_.front()->ready && queue_.front()->left.load(std::memory_order_acquire) == 0) {
    queue_.front()->complete.store(true, std::memory_order_release);
    queue_.pop_front();
    ++first_;
    moved = true;
  }
  if (moved || (!queue_.empty() && queue_.front()->ready)) changed();
}

// REQUIRES: mutex_ held.
void ThreadGroup::changed() {
  version_.fetch_add(1, std::memory_order_release);
  if (sleepers_ > 0) condition_.notify_all();
}

void ThreadGroup::wake() noexcept {
  const std::lock_guard lock(mutex_);
  changed();
}

// Claims and carries out blocks until none is left. True if it did one.
bool ThreadGroup::work(ThreadOperation& operation) {
  // Sequentially consistent, all three: a waiter that has seen the abort and then `running` at zero knows that
  // whoever comes later sees the abort before it touches a tensor.
  operation.running.fetch_add(1);
  bool did = false, last = false;
  while (!family_->aborted()) {
    const int64_t block = operation.next.fetch_add(1, std::memory_order_relaxed);
    if (block >= operation.blocks) break;
    operation.run_block(block);
    did = true;
    // Release: the block's bytes; acquire: the last one hands all of them on with `complete`.
    last = operation.left.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  operation.running.fetch_sub(1);
  if (last) {
    Lock lock(mutex_);
    if (is_point_to_point(operation.signature.kind)) {
      operation.complete.store(true, std::memory_order_release);
      changed();
    } else {
      settle(lock);
    }
  }
  return did;
}

// Until version_ has moved from `seen`; false at `until`.
bool ThreadGroup::sleep(uint32_t seen, std::chrono::steady_clock::time_point until) {
  const auto moved = [&] { return version_.load(std::memory_order_acquire) != seen; };
  if (static_cast<unsigned>(size_) <= std::thread::hardware_concurrency()) {
    const auto begun = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begun < kThreadSpin) {
      for (int i = 0; i < 16; ++i) {
        if (moved()) return true;
        hwy::Pause();
      }
    }
  }
  Lock lock(mutex_);
  ++sleepers_;
  const bool woken = condition_.wait_until(lock, until, moved);
  --sleepers_;
  return woken;
}

std::chrono::nanoseconds ThreadGroup::wait(ThreadOperation& operation) {
  const auto until = std::chrono::steady_clock::now() + options_.deadline;
  std::chrono::nanoseconds idle{0};
  for (;;) {
    const uint32_t seen = version_.load(std::memory_order_acquire);
    if (operation.complete.load(std::memory_order_acquire)) return idle;
    if (family_->aborted()) give_up(operation);
    const bool pair = is_point_to_point(operation.signature.kind);
    std::shared_ptr<ThreadOperation> head;  // of the queue, if it can be worked on
    bool ready;
    std::vector<std::string> gone;
    {
      const Lock lock(mutex_);
      ready = operation.ready;
      if (!pair && !queue_.empty() && queue_.front()->ready) head = queue_.front();
      if (!ready) gone = absent(operation, true);
    }
    if (!gone.empty()) {
      family_->abort(rank_left(gone[0], name_, operation.signature));
      continue;
    }
    if (pair ? ready && work(operation) : head && work(*head)) continue;
    const auto asleep = std::chrono::steady_clock::now();
    const bool moved = sleep(seen, until);
    idle += std::chrono::steady_clock::now() - asleep;
    if (moved) continue;
    std::vector<std::string> missing;
    {
      const Lock lock(mutex_);
      missing = absent(operation, false);
    }
    family_->abort(missing.empty()
                       ? fmt::format("{} of group \"{}\" was not carried out in {} ms", describe(operation.signature),
                                     name_, options_.deadline.count())
                       : no_answer(missing, options_.deadline, operation.signature, name_, pair ? 2 : size_));
  }
}

// Ranks that have not started it. REQUIRES: mutex_ held.
std::vector<std::string> ThreadGroup::absent(const ThreadOperation& operation, bool only_gone) const {
  std::vector<std::string> names;
  if (is_point_to_point(operation.signature.kind)) {
    const Request& request = operation.requests[operation.present[0] ? 0 : 1];
    // A rank that waits for itself cannot come any more either.
    const bool gone = gone_[static_cast<size_t>(request.peer)] || request.peer == request.color;
    if (operation.arrived < 2 && (!only_gone || gone)) names.push_back(fmt::format("rank {}", request.peer));
    return names;
  }
  for (size_t r = 0; r < operation.present.size(); ++r) {
    if (!operation.present[r] && (!only_gone || gone_[r])) names.push_back(fmt::format("rank {}", r));
  }
  return names;
}

std::string ThreadGroup::under_way(int rank) const {
  const Lock lock(mutex_);
  const auto text = [&](const ThreadOperation& operation) {
    return parallel::under_way(operation.signature, name_, std::chrono::steady_clock::now() - operation.begun,
                               absent(operation, false));
  };
  for (const auto& operation : queue_) {
    if (operation->present[static_cast<size_t>(rank)]) return text(*operation);
  }
  for (const auto& half : half_) {
    if (half->requests[half->present[0] ? 0 : 1].color == rank) return text(*half);
  }
  return {};
}

// Until nobody works on the operation's tensors, which takes a block at most. REQUIRES: complete or aborted.
void ThreadGroup::quiesce(const ThreadOperation& operation) {
  while (operation.running.load() > 0) std::this_thread::yield();
}

void ThreadGroup::give_up(ThreadOperation& operation) {
  quiesce(operation);
  throw CommunicationError(failure(operation));
}

std::string ThreadGroup::failure(const ThreadOperation& operation) const {
  return fmt::format("{} (in {} of group \"{}\")", family_->reason(), describe(operation.signature), name_);
}

void ThreadGroup::drop(int rank, ThreadOperation& operation) noexcept {
  if (!operation.complete.load(std::memory_order_acquire) && !family_->aborted()) {
    try {
      family_->abort(fmt::format("rank {} dropped {} of group \"{}\" before it was complete", rank,
                                 describe(operation.signature), name_));
    } catch (...) {
      family_->abort("an operation was dropped before it was complete");
    }
  }
  quiesce(operation);
}

void ThreadGroup::leave(int rank) noexcept {
  const std::lock_guard lock(mutex_);
  gone_[static_cast<size_t>(rank)] = 1;
  changed();
}

}  // namespace troupe::parallel
