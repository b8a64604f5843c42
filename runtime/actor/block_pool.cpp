#include "runtime/actor/block_pool.h"

namespace troupe::actor {

#if !defined(TROUPE_PLAIN_BLOCKS)
constinit thread_local BlockPool block_pool;
#endif

// Objects of the thread that go after this one free their blocks elsewhere.
class BlockPool::AtThreadEnd {
 public:
  explicit AtThreadEnd(BlockPool& pool) : pool_(pool) {}
  ~AtThreadEnd() {
    pool_.closed_ = true;
    for (size_t size_class = 0; size_class < kClasses; ++size_class) {
      pool_.room_[size_class] = 0;
      while (Block* block = pool_.first_[size_class]) {
        pool_.first_[size_class] = block->next;
        ::operator delete(block);
      }
    }
  }

 private:
  BlockPool& pool_;
};

// Blocks of a size class are of one size, whatever was asked for.
void* BlockPool::fresh(size_t size) {
  const size_t size_class = (size - 1) / kStep;
  return ::operator new(size_class >= kClasses ? size : (size_class + 1) * kStep);
}

void BlockPool::no_room(void* memory, size_t size) noexcept {
  if (open_ || closed_ || (size - 1) / kStep >= kClasses) return ::operator delete(memory);
  open_ = true;
  for (uint32_t& room : room_) room = kMostKept;
  thread_local const AtThreadEnd at_thread_end(*this);
  keep(memory, size);
}

}  // namespace troupe::actor
