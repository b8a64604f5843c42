#include "runtime/wire/frame.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/wire/bytes.h"

namespace troupe::wire {
namespace {

Frame sample(size_t words_bytes, const std::vector<size_t>& buffers) {
  Frame frame;
  frame.header = {FrameKind::reply, 7, 1, 2, 3, 4, 5, 6, -7};
  frame.body.words.resize(words_bytes, std::byte{0x5a});
  for (const size_t size : buffers) {
    std::span<std::byte> bytes;
    frame.body.buffers.push_back(Buffer::allocate(size, &bytes));
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + size);
  }
  return frame;
}

std::vector<std::byte> bytes_of_frame(const Frame& frame) {
  std::vector<std::byte> out;
  append_frame_head(frame.header, frame.body, out);
  append(out, frame.body.words);
  for (const Buffer& buffer : frame.body.buffers) append(out, buffer.bytes());
  return out;
}

void expect_same(const Frame& a, const Frame& b) {
  EXPECT_EQ(a.header.kind, b.header.kind);
  EXPECT_EQ(a.header.method, b.header.method);
  EXPECT_EQ(a.header.destination, b.header.destination);
  EXPECT_EQ(a.header.source, b.header.source);
  EXPECT_EQ(a.header.ask, b.header.ask);
  EXPECT_EQ(a.header.sequence, b.header.sequence);
  EXPECT_EQ(a.header.generation, b.header.generation);
  EXPECT_EQ(a.header.trace, b.header.trace);
  EXPECT_EQ(a.header.time_left_ns, b.header.time_left_ns);
  EXPECT_EQ(a.body.words, b.body.words);
  ASSERT_EQ(a.body.buffers.size(), b.body.buffers.size());
  for (size_t i = 0; i < a.body.buffers.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(a.body.buffers[i].bytes(), b.body.buffers[i].bytes()));
  }
}

// Feeds `bytes` in pieces; the frames that came out, or the error.
Result<std::vector<Frame>> parse(std::span<const std::byte> bytes, size_t piece, FrameLimits limits = {}) {
  BufferPool pool;
  FrameParser parser(limits, pool);
  std::vector<Frame> frames;
  while (true) {
    auto frame = TROUPE_TRY(parser.next());
    if (frame) {
      frames.push_back(std::move(*frame));
      continue;
    }
    if (bytes.empty()) {
      if (parser.midway()) return failed("an unfinished frame");
      return frames;
    }
    size_t filled = 0;
    for (const auto space : parser.space()) {
      const size_t size = std::min({space.size(), bytes.size(), piece - filled});
      std::copy_n(bytes.begin(), size, space.begin());
      bytes = bytes.subspan(size);
      filled += size;
    }
    parser.filled(filled);
  }
}

TEST(Frame, ComesOutAsItWentInWhateverThePieces) {
  std::vector<Frame> frames;
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < 30; ++i) {
    frames.push_back(sample(i * 8 % 200, i % 3 == 0 ? std::vector<size_t>{} : std::vector<size_t>{i * 1001, 0, i}));
    append(bytes, bytes_of_frame(frames.back()));
  }
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{87}, size_t{88}, size_t{89}, size_t{4096}, size_t{1} << 30}) {
    const auto parsed = parse(bytes, piece);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message();
    ASSERT_EQ(parsed->size(), frames.size());
    for (size_t i = 0; i < frames.size(); ++i) expect_same((*parsed)[i], frames[i]);
  }
}

TEST(Frame, ReadsLargeBuffersStraightIntoTheirMemory) {
  const std::vector<std::byte> bytes = bytes_of_frame(sample(8, {1'000'000}));
  BufferPool pool;
  FrameParser parser({}, pool);
  const auto head = std::span(bytes).first(kFrameHeadBytes + 16 + 100);
  std::copy(head.begin(), head.end(), parser.space()[1].begin());
  parser.filled(head.size());
  ASSERT_FALSE(parser.next()->has_value());
  const auto direct = parser.space()[0];
  ASSERT_EQ(direct.size(), 1'000'000U - 100);
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(head.size()), direct.size(), direct.begin());
  parser.filled(direct.size());
  const auto frame = parser.next();
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->body.buffers[0].bytes().data() + 100, direct.data());
}

TEST(Frame, EveryDamagedByteOfTheHeadIsNoticed) {
  const std::vector<std::byte> whole = bytes_of_frame(sample(8, {10}));
  for (size_t i = 0; i < kFrameHeadBytes; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto damaged = whole;
      damaged[i] ^= static_cast<std::byte>(1 << bit);
      EXPECT_FALSE(parse(damaged, 1 << 20).ok()) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(Frame, BufferLengthsThatDoNotAddUpAreRefused) {
  const std::vector<std::byte> whole = bytes_of_frame(sample(8, {10, 20}));
  for (const uint64_t length : {uint64_t{9}, uint64_t{11}, ~uint64_t{0}, uint64_t{1} << 40}) {
    auto damaged = whole;
    store<uint64_t>(damaged.data() + kFrameHeadBytes, length);
    EXPECT_FALSE(parse(damaged, 1 << 20).ok());
  }
}

TEST(Frame, LimitsHoldBeforeAnyMemoryIsTaken) {
  Frame frame = sample(0, {});
  const auto refused = [&](Body body, const FrameLimits& limits) {
    std::vector<std::byte> head;
    append_frame_head(frame.header, body, head);
    const auto parsed = parse(head, 1 << 20, limits);
    EXPECT_FALSE(check_frame(body, limits).ok());
    return parsed.ok() ? "" : parsed.error().message();
  };
  // Buffers that say they are large; nobody looks at their bytes.
  const auto huge = [](size_t size) {
    static std::byte one;
    return Buffer({&one, size}, nullptr);
  };
  EXPECT_EQ(refused({std::vector<std::byte>(1001), {}}, {1000, 1000, 2}), "a message of 1001 bytes; the limit is 1000");
  EXPECT_EQ(refused({{}, {huge(400), huge(601)}}, {1000, 1000, 2}),
            "a message with 1001 bytes of buffers; the limit is 1000");
  EXPECT_EQ(refused({{}, {huge(1), huge(1), huge(1)}}, {1000, 1000, 2}), "a message with 3 buffers; the limit is 2");
  EXPECT_EQ(refused({{}, {huge(size_t{1} << 62)}}, {}),
            "a message with 4611686018427387904 bytes of buffers; the limit is 17179869184");
}

TEST(Frame, AHostileLengthTakesNoMemoryUntilBytesCome) {
  // 16 GiB are announced, 100 bytes come: the machine may well have less memory than that.
  static std::byte one;
  Frame frame = sample(0, {});
  frame.body.buffers.emplace_back(std::span<const std::byte>(&one, size_t{16} << 30), nullptr);
  std::vector<std::byte> bytes;
  append_frame_head(frame.header, frame.body, bytes);
  bytes.resize(bytes.size() + 100);
  const auto parsed = parse(bytes, 1 << 20);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().message(), "an unfinished frame");
}

TEST(Frame, NoiseIsRefusedAtOnce) {
  std::vector<std::byte> noise(200, std::byte{0x41});
  const auto parsed = parse(noise, 13);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().message(), "what arrived is not a frame");
}

}  // namespace
}  // namespace troupe::wire
