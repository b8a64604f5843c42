// Frames on their way into a stream: small pieces gathered side by side, large ones referred to where they lie.
#pragma once
#include <sys/uio.h>

#include <span>

#include "runtime/net/transport.h"

namespace troupe::net {

class FrameWriter {
 public:
  bool empty() const { return bytes_ == 0; }
  // Not yet written.
  size_t bytes() const { return bytes_; }
  // REQUIRES: the parcel has no payload; empty(), or nothing was written since it was.
  void add(Parcel parcel);
  // The next pieces to write; valid until wrote() or add(). Returns how many there are.
  size_t gather(std::span<iovec> pieces) const;
  void wrote(size_t bytes);

 private:
  struct Piece {
    const std::byte* large = nullptr;  // null: at `offset` of small_
    size_t offset = 0;
    size_t size = 0;
  };
  void add_small(std::span<const std::byte> bytes);
  void add_large(std::span<const std::byte> bytes);
  void end_small(size_t begin);

  std::vector<std::byte> small_;
  std::vector<Piece> pieces_;
  std::vector<Parcel> kept_;  // whose large pieces are referred to
  size_t first_ = 0;          // piece
  size_t written_ = 0;        // of that piece
  size_t bytes_ = 0;
};

}  // namespace troupe::net
