#include "runtime/wire/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace troupe::wire {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Smaller memory comes from the allocator, which reuses it well enough.
constexpr size_t kPooledBytes = size_t{1} << 20;

size_t capacity_of(size_t size) {
  const size_t unit = size >= kPooledBytes ? kHugePage : kAlignment;
  return (size + unit - 1) / unit * unit;
}

std::byte* allocate_memory(size_t capacity) {
  const bool large = capacity >= kPooledBytes;
  void* memory = std::aligned_alloc(large ? kHugePage : kAlignment, capacity);
  if (memory == nullptr) throw std::bad_alloc();
  if (large) ::madvise(memory, capacity, MADV_HUGEPAGE);  // a hint: fewer page faults
  return static_cast<std::byte*>(memory);
}

}  // namespace

class BufferPool::Shelf {
 public:
  explicit Shelf(size_t keep_bytes) : keep_bytes_(keep_bytes) {}
  ~Shelf() {
    for (const auto& [capacity, memory] : free_) std::free(memory);
  }

  // Memory that is not more than twice as large as asked for, or null.
  std::byte* take(size_t capacity, size_t* taken) {
    const std::lock_guard lock(mutex_);
    const auto found = free_.lower_bound(capacity);
    if (found == free_.end() || found->first > 2 * capacity) return nullptr;
    std::byte* memory = found->second;
    *taken = found->first;
    kept_bytes_ -= found->first;
    free_.erase(found);
    return memory;
  }
  void give(std::byte* memory, size_t capacity) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (kept_bytes_ + capacity <= keep_bytes_) {
        free_.emplace(capacity, memory);
        kept_bytes_ += capacity;
        return;
      }
    }
    std::free(memory);
  }
  size_t kept_bytes() const {
    const std::lock_guard lock(mutex_);
    return kept_bytes_;
  }

 private:
  const size_t keep_bytes_;
  mutable std::mutex mutex_;
  std::multimap<size_t, std::byte*> free_;  // by capacity
  size_t kept_bytes_ = 0;
};

Buffer Buffer::allocate(size_t size, std::span<std::byte>* writable) {
  std::byte* memory = size == 0 ? nullptr : allocate_memory(capacity_of(size));
  *writable = {memory, size};
  return {*writable, std::shared_ptr<const void>(memory, [](std::byte* freed) { std::free(freed); })};
}

BufferPool::BufferPool(size_t keep_bytes) : shelf_(std::make_shared<Shelf>(keep_bytes)) {}

Result<Buffer> BufferPool::allocate(size_t size, std::span<std::byte>* writable) {
  try {
    if (size < kPooledBytes) return Buffer::allocate(size, writable);
    size_t capacity = capacity_of(size);
    std::byte* memory = shelf_->take(capacity, &capacity);
    if (memory == nullptr) memory = allocate_memory(capacity);
    *writable = {memory, size};
    return Buffer(*writable, std::shared_ptr<const void>(memory, [shelf = shelf_, capacity](std::byte* freed) {
      shelf->give(freed, capacity);
    }));
  } catch (const std::bad_alloc&) {
    return failed("no memory for a buffer of {} bytes", size);
  }
}

size_t BufferPool::kept_bytes() const { return shelf_->kept_bytes(); }

}  // namespace troupe::wire
