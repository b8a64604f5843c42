// Messages and coroutine frames live for microseconds and come in few sizes: each thread keeps some freed blocks of
// each size for the next ones. A sanitizer sees every allocation instead.
#include <new>

#include "runtime/actor/task.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TROUPE_PLAIN_BLOCKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TROUPE_PLAIN_BLOCKS 1
#endif
#endif

namespace troupe::actor {

#if defined(TROUPE_PLAIN_BLOCKS)

void* allocate_block(size_t size) { return ::operator new(size); }
void free_block(void* block, size_t size) noexcept { ::operator delete(block, size); }

#else
namespace {

constexpr size_t kStep = 64, kClasses = 16, kKept = 4096;  // up to 1 KiB

class Pool {
 public:
  ~Pool() {
    for (size_t size_class = 0; size_class < kClasses; ++size_class) {
      while (void* block = take(size_class)) ::operator delete(block);
      kept_[size_class] = kKept;  // thread-local objects that go after this one free theirs elsewhere
    }
  }
  void* take(size_t size_class) {
    Block* block = first_[size_class];
    if (block == nullptr) return nullptr;
    first_[size_class] = block->next;
    --kept_[size_class];
    return block;
  }
  bool keep(size_t size_class, void* memory) {
    if (kept_[size_class] >= kKept) return false;
    ++kept_[size_class];
    first_[size_class] = new (memory) Block{first_[size_class]};
    return true;
  }

 private:
  struct Block {
    Block* next;
  };
  Block* first_[kClasses] = {};
  size_t kept_[kClasses] = {};
};

thread_local Pool pool;

}  // namespace

void* allocate_block(size_t size) {
  const size_t size_class = (size - 1) / kStep;
  if (size_class >= kClasses) return ::operator new(size);
  void* block = pool.take(size_class);
  return block != nullptr ? block : ::operator new((size_class + 1) * kStep);
}

void free_block(void* block, size_t size) noexcept {
  const size_t size_class = (size - 1) / kStep;
  if (size_class >= kClasses || !pool.keep(size_class, block)) ::operator delete(block);
}
#endif

}  // namespace troupe::actor
