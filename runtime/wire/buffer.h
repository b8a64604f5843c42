// Bytes that travel beside a message without being copied: a view and whatever owns it.
#pragma once
#include <cstddef>
#include <memory>
#include <span>

#include "runtime/base/result.h"

namespace troupe::wire {

// Immutable and shared: cheap to copy, safe to read from any thread.
class Buffer {
 public:
  Buffer() = default;
  // `bytes` stay valid as long as `owner` lives.
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}
  // Uninitialised memory of its own, aligned to 64 bytes, and a way to fill it before it is shared. Large memory is
  // committed by the operating system only where it is written.
  static Buffer allocate(size_t size, std::span<std::byte>* writable);

  std::span<const std::byte> bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

// Keeps the memory of large buffers that nobody holds any more for the next ones, because fresh pages cost as much
// as the copying. Thread-safe; buffers may outlive it.
class BufferPool {
 public:
  // Keeps at most `keep_bytes` that are not in use.
  explicit BufferPool(size_t keep_bytes = size_t{256} << 20);
  // As Buffer::allocate(). An error where there is not that much: sizes come from outside.
  Result<Buffer> allocate(size_t size, std::span<std::byte>* writable);
  size_t kept_bytes() const;

 private:
  class Shelf;
  std::shared_ptr<Shelf> shelf_;
};

// From this size on, a buffer goes by rendezvous: the receiver fetches it straight into its own memory.
constexpr size_t kRendezvousBytes = 64 * 1024;

}  // namespace troupe::wire
