#include "kernels/tensor/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

namespace troupe::kernels {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Eight classes to each power of two: a block is at most 12.5% larger than asked for.
size_t size_class(size_t bytes) {
  if (bytes <= 512) return 512;
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

std::string_view name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::parameters: return "parameters";
    case MemoryKind::gradients: return "gradients";
    case MemoryKind::optimizer: return "optimizer";
    case MemoryKind::activations: return "activations";
    case MemoryKind::buffers: return "buffers";
  }
  return "?";
}

void* SystemMemory::allocate(size_t bytes) {
  if (bytes < kHugePage) return ::operator new(bytes, std::align_val_t{64});
  // Over-map and trim, so that the block starts on a huge page.
  const size_t length = (bytes + 4095) / 4096 * 4096;
  void* mapped = mmap(nullptr, length + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(mapped);
  const size_t skip = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (skip > 0) munmap(begin, skip);
  munmap(begin + skip + length, kHugePage - skip);
  madvise(begin + skip, length, MADV_HUGEPAGE);
  return begin + skip;
}

void SystemMemory::release(void* block, size_t bytes) {
  if (bytes < kHugePage) ::operator delete(block, std::align_val_t{64});
  else munmap(block, (bytes + 4095) / 4096 * 4096);
}

CachingAllocator::~CachingAllocator() { release_cached(); }

void* CachingAllocator::allocate(int64_t bytes, MemoryKind kind) {
  const size_t rounded = size_class(static_cast<size_t>(bytes));
  std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (auto found = free_.find(rounded); found != free_.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
  } else {
    block = source_.allocate(rounded);
    reserved_ += static_cast<int64_t>(rounded);
    ++source_allocations_;
  }
  for (MemoryUse* use : {&total_, &by_kind_[static_cast<size_t>(kind)]}) {
    use->bytes += bytes;
    use->peak_bytes = std::max(use->peak_bytes, use->bytes);
  }
  return block;
}

void CachingAllocator::release(void* block, int64_t bytes, MemoryKind kind) {
  const size_t rounded = size_class(static_cast<size_t>(bytes));
  std::lock_guard lock(mutex_);
  free_[rounded].push_back(block);
  total_.bytes -= bytes;
  by_kind_[static_cast<size_t>(kind)].bytes -= bytes;
}

MemoryUse CachingAllocator::use() const {
  std::lock_guard lock(mutex_);
  return total_;
}

MemoryUse CachingAllocator::use(MemoryKind kind) const {
  std::lock_guard lock(mutex_);
  return by_kind_[static_cast<size_t>(kind)];
}

int64_t CachingAllocator::reserved_bytes() const {
  std::lock_guard lock(mutex_);
  return reserved_;
}

int64_t CachingAllocator::source_allocations() const {
  std::lock_guard lock(mutex_);
  return source_allocations_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  total_.peak_bytes = total_.bytes;
  for (auto& use : by_kind_) use.peak_bytes = use.bytes;
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  for (auto& [rounded, blocks] : free_) {
    for (void* block : blocks) {
      source_.release(block, rounded);
      reserved_ -= static_cast<int64_t>(rounded);
    }
  }
  free_.clear();
}

}  // namespace troupe::kernels
