// Bytes that travel beside a message without being copied: a view and whatever owns it.
#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace troupe::wire {

// Immutable and shared: cheap to copy, safe to read from any thread.
class Buffer {
 public:
  Buffer() = default;
  // `bytes` stay valid as long as `owner` lives.
  Buffer(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}
  // Uninitialised memory of its own, aligned to 64 bytes, and a way to fill it before it is shared.
  static Buffer allocate(size_t size, std::span<std::byte>* writable);

  std::span<const std::byte> bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

// From this size on, a buffer goes by rendezvous: the receiver fetches it straight into its own memory.
constexpr size_t kRendezvousBytes = 64 * 1024;

}  // namespace troupe::wire
