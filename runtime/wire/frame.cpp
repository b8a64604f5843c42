#include "runtime/wire/frame.h"

#include <algorithm>

#include "runtime/base/human_format.h"
#include "runtime/wire/bytes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace troupe::wire {
namespace {

constexpr uint32_t kMagic = 0x31465254;  // "TRF1"
constexpr size_t kStagingBytes = 64 * 1024;
// Less than this goes through the staging memory: one read then takes what follows, too.
constexpr size_t kDirectBytes = 4096;

bool is_kind(uint8_t kind) {
  return kind >= static_cast<uint8_t>(FrameKind::message) && kind <= static_cast<uint8_t>(FrameKind::close);
}

Status check_lengths(uint64_t words_bytes, uint64_t buffers, uint64_t buffers_bytes, const FrameLimits& limits) {
  if (words_bytes > static_cast<uint64_t>(limits.max_words_bytes)) {
    return failed("a message of {} bytes; the limit is {}", words_bytes, limits.max_words_bytes);
  }
  if (buffers > limits.max_buffers) {
    return failed("a message with {} buffers; the limit is {}", buffers, limits.max_buffers);
  }
  if (buffers_bytes > static_cast<uint64_t>(limits.max_buffers_bytes)) {
    return failed("a message with {} bytes of buffers; the limit is {}", buffers_bytes, limits.max_buffers_bytes);
  }
  return {};
}

}  // namespace

Status check_frame(const Body& body, const FrameLimits& limits) {
  uint64_t buffers_bytes = 0;
  for (const Buffer& buffer : body.buffers) buffers_bytes += buffer.size();
  return check_lengths(body.words.size(), body.buffers.size(), buffers_bytes, limits);
}

void append_frame_head(const Header& header, const Body& body, std::vector<std::byte>& out) {
  const size_t at = out.size();
  out.resize(at + kFrameHeadBytes + 8 * body.buffers.size());
  std::byte* head = out.data() + at;
  store<uint32_t>(head, kMagic);
  store<uint8_t>(head + 4, static_cast<uint8_t>(header.kind));
  store<uint8_t>(head + 5, 0);
  store<uint16_t>(head + 6, header.method);
  store<uint32_t>(head + 8, static_cast<uint32_t>(body.words.size()));
  store<uint32_t>(head + 12, static_cast<uint32_t>(body.buffers.size()));
  store<uint64_t>(head + 16, header.destination);
  store<uint64_t>(head + 24, header.source);
  store<uint64_t>(head + 32, header.ask);
  store<uint64_t>(head + 40, header.sequence);
  store<uint64_t>(head + 48, header.generation);
  store<uint64_t>(head + 56, header.trace);
  store<uint64_t>(head + 64, static_cast<uint64_t>(header.time_left_ns));
  uint64_t buffers_bytes = 0;
  for (size_t i = 0; i < body.buffers.size(); ++i) {
    store<uint64_t>(head + kFrameHeadBytes + 8 * i, body.buffers[i].size());
    buffers_bytes += body.buffers[i].size();
  }
  store<uint64_t>(head + 72, buffers_bytes);
  store<uint64_t>(head + 80, XXH3_64bits(head, 80));
}

Result<FrameHead> parse_frame_head(std::span<const std::byte> bytes, const FrameLimits& limits) {
  const std::byte* head = bytes.data();
  if (load<uint32_t>(head) != kMagic) return failed("what arrived is not a frame");
  if (load<uint64_t>(head + 80) != XXH3_64bits(head, 80)) return failed("a frame's head is damaged");
  FrameHead parsed;
  const auto kind = load<uint8_t>(head + 4);
  if (!is_kind(kind)) return failed("a frame of unknown kind {}", kind);
  if (load<uint8_t>(head + 5) != 0) return failed("a frame's head is malformed");
  Header& header = parsed.header;
  header.kind = static_cast<FrameKind>(kind);
  header.method = load<uint16_t>(head + 6);
  parsed.words_bytes = load<uint32_t>(head + 8);
  parsed.buffers = load<uint32_t>(head + 12);
  header.destination = load<uint64_t>(head + 16);
  header.source = load<uint64_t>(head + 24);
  header.ask = load<uint64_t>(head + 32);
  header.sequence = load<uint64_t>(head + 40);
  header.generation = load<uint64_t>(head + 48);
  header.trace = load<uint64_t>(head + 56);
  header.time_left_ns = static_cast<int64_t>(load<uint64_t>(head + 64));
  parsed.buffers_bytes = load<uint64_t>(head + 72);
  TROUPE_TRY(check_lengths(parsed.words_bytes, parsed.buffers, parsed.buffers_bytes, limits));
  return parsed;
}

Result<std::vector<size_t>> parse_buffer_lengths(std::span<const std::byte> bytes, const FrameHead& head) {
  std::vector<size_t> lengths(head.buffers);
  uint64_t left = head.buffers_bytes;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto length = load<uint64_t>(bytes.data() + 8 * i);
    if (length > left) return failed("a frame's buffers are longer than its head says");
    left -= length;
    lengths[i] = length;
  }
  if (left != 0) return failed("a frame's buffers are shorter than its head says");
  return lengths;
}

FrameParser::FrameParser(const FrameLimits& limits, BufferPool& pool)
    : limits_(limits), pool_(pool), staging_(std::max(kStagingBytes, size_t{8} * limits.max_buffers)) {}

std::array<std::span<std::byte>, 2> FrameParser::space() {
  std::span<std::byte> direct;
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (state_ == State::buffers && writing_.size() >= kDirectBytes) direct = writing_;
  } else if (end_ == staging_.size() || begin_ > staging_.size() / 2) {
    std::copy(staging_.begin() + static_cast<ptrdiff_t>(begin_), staging_.begin() + static_cast<ptrdiff_t>(end_),
              staging_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  return {direct, std::span(staging_).subspan(end_)};
}

void FrameParser::filled(size_t bytes) {
  if (begin_ == end_ && state_ == State::buffers && writing_.size() >= kDirectBytes) {
    const size_t direct = std::min(bytes, writing_.size());
    writing_ = writing_.subspan(direct);
    bytes -= direct;
  }
  end_ += bytes;
}

Status FrameParser::begin_buffer() {
  const size_t length = lengths_[frame_.body.buffers.size()];
  frame_.body.buffers.push_back(TROUPE_TRY(pool_.allocate(length, &writing_)));
  return {};
}

Result<std::optional<Frame>> FrameParser::next() {
  const auto broken = [this](Error error) {
    state_ = State::broken;
    error_ = error;
    return error;
  };
  while (true) {
    switch (state_) {
      case State::broken: return error_;
      case State::head: {
        if (staged().size() < kFrameHeadBytes) return std::optional<Frame>();
        auto head = parse_frame_head(staged().first(kFrameHeadBytes), limits_);
        if (!head.ok()) return broken(std::move(head).error());
        head_ = *head;
        frame_ = Frame{head_.header, {}};
        begin_ += kFrameHeadBytes;
        state_ = State::lengths;
        break;
      }
      case State::lengths: {
        const size_t size = size_t{8} * head_.buffers;
        if (staged().size() < size) return std::optional<Frame>();
        auto lengths = parse_buffer_lengths(staged().first(size), head_);
        if (!lengths.ok()) return broken(std::move(lengths).error());
        lengths_ = std::move(lengths).value();
        begin_ += size;
        state_ = State::words;
        break;
      }
      case State::words: {
        std::vector<std::byte>& words = frame_.body.words;
        const size_t taken = std::min(staged().size(), head_.words_bytes - words.size());
        append(words, staged().first(taken));
        begin_ += taken;
        if (words.size() < head_.words_bytes) return std::optional<Frame>();
        state_ = State::buffers;
        if (lengths_.empty()) break;
        if (Status begun = begin_buffer(); !begun.ok()) return broken(std::move(begun).error());
        break;
      }
      case State::buffers: {
        const size_t taken = std::min(staged().size(), writing_.size());
        std::copy_n(staging_.begin() + static_cast<ptrdiff_t>(begin_), taken, writing_.begin());
        writing_ = writing_.subspan(taken);
        begin_ += taken;
        if (!writing_.empty()) return std::optional<Frame>();
        if (frame_.body.buffers.size() < lengths_.size()) {
          if (Status begun = begin_buffer(); !begun.ok()) return broken(std::move(begun).error());
          break;
        }
        state_ = State::head;
        return std::optional<Frame>(std::move(frame_));
      }
    }
  }
}

}  // namespace troupe::wire
