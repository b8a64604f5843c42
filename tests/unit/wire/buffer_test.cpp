#include "runtime/wire/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "tests/sanitized.h"

namespace troupe::wire {
namespace {

TEST(Buffer, IsAlignedAndAsLongAsAsked) {
  for (const size_t size : {size_t{1}, size_t{63}, size_t{64}, size_t{100'000}, size_t{3} << 20}) {
    std::span<std::byte> bytes;
    const Buffer buffer = Buffer::allocate(size, &bytes);
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(bytes.data(), buffer.bytes().data());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0U);
    bytes.back() = std::byte{1};
  }
  std::span<std::byte> none;
  EXPECT_EQ(Buffer::allocate(0, &none).size(), 0U);
}

TEST(BufferPool, GivesTheSameMemoryAgain) {
  BufferPool pool(size_t{16} << 20);
  std::span<std::byte> first, second, third;
  {
    const Buffer buffer = *pool.allocate(size_t{5} << 20, &first);
  }
  EXPECT_EQ(pool.kept_bytes(), size_t{6} << 20);
  const Buffer again = *pool.allocate((size_t{5} << 20) - 100, &second);
  EXPECT_EQ(first.data(), second.data());
  EXPECT_EQ(pool.kept_bytes(), 0U);
  const Buffer other = *pool.allocate(size_t{5} << 20, &third);
  EXPECT_NE(second.data(), third.data());
}

TEST(BufferPool, KeepsNoMoreThanItMay) {
  BufferPool pool(size_t{4} << 20);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 5; ++i) {
    std::span<std::byte> bytes;
    buffers.push_back(*pool.allocate(size_t{2} << 20, &bytes));
  }
  buffers.clear();
  EXPECT_EQ(pool.kept_bytes(), size_t{4} << 20);
}

TEST(BufferPool, RefusesASizeThatThereIsNoMemoryFor) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator ends the program";
  BufferPool pool;
  std::span<std::byte> bytes;
  const auto none = pool.allocate(size_t{1} << 48, &bytes);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().message(), "no memory for a buffer of 281474976710656 bytes");
}

TEST(BufferPool, BuffersOutliveItAndDieOnAnyThread) {
  Buffer buffer;
  {
    BufferPool pool;
    std::span<std::byte> bytes;
    buffer = *pool.allocate(size_t{2} << 20, &bytes);
    bytes[0] = std::byte{5};
  }
  EXPECT_EQ(buffer.bytes()[0], std::byte{5});
  std::thread([last = std::move(buffer)] { EXPECT_EQ(last.size(), size_t{2} << 20); }).join();
}

}  // namespace
}  // namespace troupe::wire
