// A frame: what one message is on a stream of bytes. All numbers are little-endian.
//
//   offset  bytes  what
//        0      4  "TRF1"
//        4      1  kind            (header.h)
//        5      1  zero
//        6      2  method
//        8      4  bytes of the body's words: Cap'n Proto; plain text in a close frame
//       12      4  number of buffers
//       16     56  destination, source, ask, sequence, generation, trace, time_left_ns: 8 each
//       72      8  bytes of all buffers together
//       80      8  XXH3 (64 bits) of the 80 bytes before: a stream that lost its place is noticed at once
//       88         length of each buffer: 8 each
//                  the words, then the buffers one after the other
//
// The parser believes no length before it stands within the limits, and takes memory only as bytes arrive (a large
// buffer's is reserved as a whole, but the operating system commits it page by page as it is written).
#pragma once
#include <array>
#include <optional>

#include "runtime/base/result.h"
#include "runtime/wire/body.h"
#include "runtime/wire/header.h"

namespace troupe::wire {

constexpr size_t kFrameHeadBytes = 88;
constexpr int64_t kMostWordsBytes = 0xFFFFFFFF;  // that a head can say

struct FrameLimits {
  int64_t max_words_bytes = int64_t{16} << 20;
  int64_t max_buffers_bytes = int64_t{16} << 30;  // of all buffers of a frame
  uint32_t max_buffers = 4096;
};

struct Frame {
  Header header;
  Body body;
};

// What stands in the first 88 bytes.
struct FrameHead {
  Header header;
  uint32_t words_bytes = 0;
  uint32_t buffers = 0;
  uint64_t buffers_bytes = 0;
};

// Whether a frame may be sent to a peer with these limits; the error says by how much it is too large.
Status check_frame(const Body& body, const FrameLimits& limits);
// Appends the head and the lengths of the buffers.
void append_frame_head(const Header& header, const Body& body, std::vector<std::byte>& out);
// REQUIRES: kFrameHeadBytes bytes. Errors: not a frame, an unknown kind, beyond a limit.
Result<FrameHead> parse_frame_head(std::span<const std::byte> bytes, const FrameLimits& limits);
// REQUIRES: 8 bytes for each buffer. Errors: the lengths are not what the head says.
Result<std::vector<size_t>> parse_buffer_lengths(std::span<const std::byte> bytes, const FrameHead& head);

// Turns a stream of bytes, in pieces of any size, into frames. Large buffers are read into their own memory.
class FrameParser {
 public:
  // The pool outlives the parser.
  FrameParser(const FrameLimits& limits, BufferPool& pool);

  // Where the next bytes go, first the first; the second is never empty. Valid until filled().
  // REQUIRES: next() has said that it needs more, or was never called.
  std::array<std::span<std::byte>, 2> space();
  void filled(size_t bytes);
  // The next whole frame, or nothing where more bytes are needed. After an error there are only errors.
  Result<std::optional<Frame>> next();
  // Bytes of an unfinished frame have arrived.
  bool midway() const { return state_ != State::head || begin_ != end_; }

 private:
  enum class State { head, lengths, words, buffers, broken };
  std::span<const std::byte> staged() const { return {staging_.data() + begin_, end_ - begin_}; }
  Status begin_buffer();

  const FrameLimits limits_;
  BufferPool& pool_;
  std::vector<std::byte> staging_;
  size_t begin_ = 0;  // of what is staged and not yet parsed
  size_t end_ = 0;
  State state_ = State::head;
  FrameHead head_;
  std::vector<size_t> lengths_;
  Frame frame_;
  std::span<std::byte> writing_;  // of the buffer at hand: what is still to come
  Error error_{ErrorKind::failed, ""};
};

}  // namespace troupe::wire
