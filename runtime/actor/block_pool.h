// Memory for coroutines and messages, which live for microseconds and come in few sizes: each thread keeps some freed
// blocks of each size for the next ones. A sanitizer sees every allocation instead.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TROUPE_PLAIN_BLOCKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TROUPE_PLAIN_BLOCKS 1
#endif
#endif

namespace troupe::actor {

// One thread's. It is plain data, ready before and after every constructor of the thread; what it holds is freed when
// the thread ends.
class BlockPool {
 public:
  static constexpr size_t kStep = 64, kClasses = 16;  // up to 1 KiB
  static constexpr uint32_t kMostKept = 4096;         // of each size

  void* take(size_t size) {
    const size_t size_class = (size - 1) / kStep;
    if (size_class >= kClasses || first_[size_class] == nullptr) return fresh(size);
    Block* block = first_[size_class];
    first_[size_class] = block->next;
    ++room_[size_class];
    return block;
  }
  void keep(void* memory, size_t size) noexcept {
    const size_t size_class = (size - 1) / kStep;
    if (size_class >= kClasses || room_[size_class] == 0) return no_room(memory, size);
    --room_[size_class];
    first_[size_class] = new (memory) Block{first_[size_class]};
  }

 private:
  struct Block {
    Block* next;
  };
  class AtThreadEnd;
  static void* fresh(size_t size);
  void no_room(void* memory, size_t size) noexcept;

  Block* first_[kClasses] = {};
  uint32_t room_[kClasses] = {};  // 0 until the first block is freed
  bool open_ = false, closed_ = false;
};

#if !defined(TROUPE_PLAIN_BLOCKS)
// Reached without a call, though the code may be part of a shared library.
extern constinit thread_local BlockPool block_pool [[gnu::tls_model("initial-exec")]];
#endif

inline void* allocate_block(size_t size) {
#if defined(TROUPE_PLAIN_BLOCKS)
  return ::operator new(size);
#else
  return block_pool.take(size);
#endif
}

inline void free_block(void* block, size_t size) noexcept {
#if defined(TROUPE_PLAIN_BLOCKS)
  ::operator delete(block, size);
#else
  block_pool.keep(block, size);
#endif
}

}  // namespace troupe::actor
