// Blocks that a thread frees are the next ones that it takes; a thread gives back what it kept when it ends.
#include "runtime/actor/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace troupe::actor {
namespace {

TEST(BlockPool, BlocksOfEverySizeHoldWhatIsWrittenToThem) {
  for (int round = 0; round < 2; ++round) {
    std::vector<std::pair<std::byte*, size_t>> blocks;
    for (size_t size = 1; size <= 1200; size += 7) {
      auto* block = static_cast<std::byte*>(allocate_block(size));
      std::fill_n(block, size, static_cast<std::byte>(size));
      blocks.emplace_back(block, size);
    }
    for (const auto& [block, size] : blocks) {
      EXPECT_TRUE(std::all_of(block, block + size, [&](std::byte b) { return b == static_cast<std::byte>(size); }));
      free_block(block, size);
    }
  }
}

#if !defined(TROUPE_PLAIN_BLOCKS)
TEST(BlockPool, TheBlockFreedLastIsTakenFirstWithinItsSizeClass) {
  void* block = allocate_block(200);
  void* other = allocate_block(100);
  free_block(block, 200);
  free_block(other, 100);
  EXPECT_EQ(allocate_block(193), block);
  EXPECT_EQ(allocate_block(128), other);
  free_block(block, 193);
  free_block(other, 128);
}

TEST(BlockPool, KeepsABoundedNumber) {
  std::vector<void*> blocks;
  for (uint32_t i = 0; i < BlockPool::kMostKept + 10; ++i) blocks.push_back(allocate_block(64));
  for (void* block : blocks) free_block(block, 64);
  // What was kept comes back, the last first; after it come blocks from the allocator.
  const std::set<void*> kept(blocks.begin(), blocks.begin() + BlockPool::kMostKept);
  std::vector<void*> again;
  for (uint32_t i = 0; i < BlockPool::kMostKept; ++i) again.push_back(allocate_block(64));
  for (void* block : again) EXPECT_TRUE(kept.contains(block));
  for (void* block : again) free_block(block, 64);
}
#endif

// An object of a thread that goes after its pool, and one that was there before it.
struct FreesAtTheEnd {
  ~FreesAtTheEnd() {
    free_block(block, 64);
    free_block(allocate_block(64), 64);
  }
  void* block = nullptr;
};

TEST(BlockPool, BlocksMayBeFreedByAnotherThreadAndAfterTheEndOfItsPool) {
  void* mine = allocate_block(64);
  std::thread([mine] {
    thread_local FreesAtTheEnd before;
    before.block = mine;
    free_block(allocate_block(64), 64);  // the pool opens now, and closes first
    EXPECT_NE(before.block, nullptr);
  }).join();
}

}  // namespace
}  // namespace troupe::actor
