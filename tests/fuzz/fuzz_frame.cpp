#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"
#include "tests/fuzz/fuzz.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace troupe::fuzz {
namespace {

// Whatever was parsed says the same when it is written again.
void check_round_trip(const wire::Frame& frame, const wire::FrameLimits& limits) {
  std::vector<std::byte> again;
  wire::append_frame_head(frame.header, frame.body, again);
  const auto head = wire::parse_frame_head(std::span(again).first(wire::kFrameHeadBytes), limits);
  TROUPE_CHECK(head.ok(), "{}", head.error().message());
  TROUPE_CHECK(head->words_bytes == frame.body.words.size() && head->buffers == frame.body.buffers.size());
  const auto lengths = wire::parse_buffer_lengths(std::span(again).subspan(wire::kFrameHeadBytes), *head);
  TROUPE_CHECK(lengths.ok());
  for (size_t i = 0; i < lengths->size(); ++i) TROUPE_CHECK((*lengths)[i] == frame.body.buffers[i].size());
}

// Gives every head the magic number and checksum that it should have, for as long as heads say where the next one is.
void seal(std::vector<std::byte>& stream, const wire::FrameLimits& limits) {
  constexpr size_t kChecksumAt = 80;
  for (size_t at = 0; at + wire::kFrameHeadBytes <= stream.size();) {
    std::byte* head = stream.data() + at;
    wire::store<uint32_t>(head, 0x31465254);
    wire::store<uint64_t>(head + kChecksumAt, XXH3_64bits(head, kChecksumAt));
    const auto parsed = wire::parse_frame_head({head, wire::kFrameHeadBytes}, limits);
    if (!parsed.ok()) return;
    const uint64_t size =
        wire::kFrameHeadBytes + uint64_t{8} * parsed->buffers + parsed->words_bytes + parsed->buffers_bytes;
    if (size > stream.size() - at) return;
    at += size;
  }
}

}  // namespace

void frame(std::span<const uint8_t> input) {
  if (input.size() < 2) return;
  const size_t piece = 1 + (input[0] | (input[1] & 0x7f) << 8) % 5000;
  const wire::FrameLimits limits{1 << 20, int64_t{1} << 32, 64};
  const auto bytes = std::as_bytes(input.subspan(2));
  std::vector<std::byte> stream(bytes.begin(), bytes.end());
  if ((input[1] & 0x80) != 0) seal(stream, limits);
  std::span<const std::byte> rest = stream;
  wire::BufferPool pool(0);
  wire::FrameParser parser(limits, pool);
  size_t parsed_bytes = 0;
  while (true) {
    auto parsed = parser.next();
    if (!parsed.ok()) {
      TROUPE_CHECK(!parser.next().ok(), "a broken stream mended itself");
      return;
    }
    if (*parsed) {
      const wire::Frame& got = **parsed;
      check_round_trip(got, limits);
      parsed_bytes += wire::kFrameHeadBytes + 8 * got.body.buffers.size() + static_cast<size_t>(got.body.bytes());
      TROUPE_CHECK(parsed_bytes <= input.size(), "more was parsed than came");
      continue;
    }
    if (rest.empty()) return;
    size_t filled = 0;
    for (const std::span<std::byte> space : parser.space()) {
      const size_t size = std::min({space.size(), rest.size(), piece - filled});
      if (size > 0) std::memcpy(space.data(), rest.data(), size);
      rest = rest.subspan(size);
      filled += size;
    }
    parser.filled(filled);
  }
}

}  // namespace troupe::fuzz
