// A caching allocator: freed blocks are kept by size class and handed out again, so that a training step
// allocates nothing from the system after its first. Counts what is held, by kind.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>

namespace troupe::kernels {

// What a block is for; reports and the memory formulas are told in these kinds.
enum class MemoryKind : uint8_t { parameters, gradients, optimizer, activations, buffers };
constexpr int kMemoryKinds = 5;
std::string_view name_of(MemoryKind kind);

struct MemoryUse {
  int64_t bytes = 0;       // held by tensors now, as asked for (not rounded up)
  int64_t peak_bytes = 0;  // the most held at once since the last reset_peak()
};

// Where blocks come from: the system for CPU memory, a device's driver for others.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // At least `bytes`, aligned to 64; throws std::bad_alloc when there is no more.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* block, size_t bytes) = 0;
};

// Pages from mmap, large ones as huge pages where the kernel grants them.
class SystemMemory final : public MemorySource {
 public:
  void* allocate(size_t bytes) override;
  void release(void* block, size_t bytes) override;
};

// Thread-safe. Outlives every block it gave out.
class CachingAllocator {
 public:
  explicit CachingAllocator(MemorySource& source) : source_(source) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Contents are undefined. Zero bytes give a valid, unusable block.
  void* allocate(int64_t bytes, MemoryKind kind);
  void release(void* block, int64_t bytes, MemoryKind kind);

  MemoryUse use() const;                 // all kinds together
  MemoryUse use(MemoryKind kind) const;  // peak: this kind's own, at its own time
  int64_t reserved_bytes() const;        // taken from the source, cached blocks included
  int64_t source_allocations() const;    // how often the source was asked
  void reset_peak();
  void release_cached();  // gives unused blocks back to the source

 private:
  MemorySource& source_;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // by rounded size
  MemoryUse total_;
  std::array<MemoryUse, kMemoryKinds> by_kind_;
  int64_t reserved_ = 0;
  int64_t source_allocations_ = 0;
};

}  // namespace troupe::kernels
