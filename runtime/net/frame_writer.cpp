#include "runtime/net/frame_writer.h"

#include <algorithm>

#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"

namespace troupe::net {
namespace {

// Below this, copying costs less than another piece.
constexpr size_t kLargeBytes = 8 * 1024;

}  // namespace

void FrameWriter::end_small(size_t begin) {
  if (begin == small_.size()) return;
  bytes_ += small_.size() - begin;
  if (!pieces_.empty() && pieces_.back().large == nullptr && pieces_.back().offset + pieces_.back().size == begin) {
    pieces_.back().size += small_.size() - begin;
  } else {
    pieces_.push_back({nullptr, begin, small_.size() - begin});
  }
}

void FrameWriter::add_small(std::span<const std::byte> bytes) {
  const size_t begin = small_.size();
  wire::append(small_, bytes);
  end_small(begin);
}

void FrameWriter::add_large(std::span<const std::byte> bytes) {
  pieces_.push_back({bytes.data(), 0, bytes.size()});
  bytes_ += bytes.size();
}

void FrameWriter::add(Parcel parcel) {
  if (empty()) {
    small_.clear();
    pieces_.clear();
    kept_.clear();
    first_ = written_ = 0;
  }
  const size_t begin = small_.size();
  wire::append_frame_head(parcel.header, parcel.body, small_);
  end_small(begin);
  bool keep = false;
  const auto add_bytes = [&](std::span<const std::byte> bytes) {
    if (bytes.size() < kLargeBytes) return add_small(bytes);
    add_large(bytes);
    keep = true;
  };
  add_bytes(parcel.body.words);
  for (const wire::Buffer& buffer : parcel.body.buffers) add_bytes(buffer.bytes());
  if (keep) kept_.push_back(std::move(parcel));  // moved vectors keep their memory
}

size_t FrameWriter::gather(std::span<iovec> pieces) const {
  size_t count = 0;
  size_t skip = written_;
  for (size_t i = first_; i < pieces_.size() && count < pieces.size(); ++i) {
    const Piece& piece = pieces_[i];
    const std::byte* data = piece.large != nullptr ? piece.large : small_.data() + piece.offset;
    pieces[count++] = {const_cast<std::byte*>(data + skip), piece.size - skip};
    skip = 0;
  }
  return count;
}

void FrameWriter::wrote(size_t bytes) {
  bytes_ -= bytes;
  written_ += bytes;
  while (first_ < pieces_.size() && written_ >= pieces_[first_].size) written_ -= pieces_[first_++].size;
  if (bytes_ == 0) kept_.clear();
}

}  // namespace troupe::net
