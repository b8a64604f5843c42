#include "parallel/comm/process_family.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <new>

#include "runtime/base/check.h"

namespace troupe::parallel {
namespace {

constexpr size_t kReasonBytes = 1984;
enum : uint32_t { kFine = 0, kWriting = 1, kAborted = 2 };

struct alignas(64) Bell {
  std::atomic<uint32_t> word;  // moves with every ring: what a sleeper's futex waits on
  std::atomic<uint32_t> sleepers;
};

void futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  static_assert(sizeof(word) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

}  // namespace

struct ProcessFamily::Area {
  alignas(64) std::atomic<uint32_t> state;
  std::atomic<uint32_t> forwarded;
  char reason[kReasonBytes];
  Bell bells[1];  // one for each process of the host
};

size_t ProcessFamily::bytes_for(int local_size) {
  return sizeof(Area) + sizeof(Bell) * static_cast<size_t>(local_size);
}

// The area begins as zeros, which is the state of an unharmed family: nobody has to initialise it.
ProcessFamily::ProcessFamily(SharedSegment segment, int local_rank, int local_size, int context)
    : segment_(std::move(segment)), local_rank_(local_rank), local_size_(local_size), context_(context) {
  TROUPE_CHECK(segment_.bytes() >= bytes_for(local_size), "{} bytes for {} processes", segment_.bytes(), local_size);
}

bool ProcessFamily::aborted() const { return area().state.load(std::memory_order_acquire) == kAborted; }

std::string ProcessFamily::reason() const {
  if (!aborted()) return "";
  return area().reason[0] != 0 ? area().reason : "a rank was killed while it said why";
}

void ProcessFamily::abort(std::string_view reason) noexcept {
  uint32_t fine = kFine;
  if (!area().state.compare_exchange_strong(fine, kWriting, std::memory_order_relaxed)) return;
  const size_t length = std::min(reason.size(), kReasonBytes - 1);
  std::memcpy(area().reason, reason.data(), length);
  area().reason[length] = 0;
  area().state.store(kAborted, std::memory_order_release);  // publishes the reason
  before_ringing();
  ring_all();
}

void ProcessFamily::abort_for_the_dead() noexcept {
  uint32_t writing = kWriting;  // into zeros: the text ends wherever it was cut
  if (!area().state.compare_exchange_strong(writing, kAborted, std::memory_order_acq_rel)) return;
  before_ringing();
  ring_all();
}

bool ProcessFamily::claim_forwarding() { return aborted() && area().forwarded.exchange(1) == 0; }

void ProcessFamily::ring(int local_rank) noexcept {
  Bell& bell = area().bells[local_rank];
  if (bell.sleepers.load(std::memory_order_relaxed) == 0) return;
  bell.word.fetch_add(1, std::memory_order_relaxed);
  futex(bell.word, FUTEX_WAKE, INT_MAX, nullptr);
}

void ProcessFamily::ring_all() noexcept {
  for (int r = 0; r < local_size_; ++r) ring(r);
}

ProcessFamily::Sleep::Sleep(ProcessFamily& family) : family_(family) {
  Bell& bell = family.area().bells[family.local_rank_];
  seen_ = bell.word.load(std::memory_order_relaxed);
  bell.sleepers.fetch_add(1, std::memory_order_relaxed);
  // Pairs with before_ringing(): either the ringer sees the sleeper, or the look after this sees what it stored.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

ProcessFamily::Sleep::~Sleep() {
  family_.area().bells[family_.local_rank_].sleepers.fetch_sub(1, std::memory_order_relaxed);
}

void ProcessFamily::Sleep::for_at_most(std::chrono::microseconds most) {
  const timespec timeout{static_cast<time_t>(most.count() / 1'000'000),
                         static_cast<long>(most.count() % 1'000'000) * 1000};
  futex(family_.area().bells[family_.local_rank_].word, FUTEX_WAIT, seen_, &timeout);
}

}  // namespace troupe::parallel
