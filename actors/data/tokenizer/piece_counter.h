// Counts how often each piece of a text occurs.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "actors/data/tokenizer/pretokenizer.h"
#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

// A hash table from pieces to counts, with the pieces' bytes in one arena.
class PieceCounter {
 public:
  PieceCounter() : slots_(1 << 12) {}

  void add(std::string_view piece, int64_t count);
  void add_text(const PreTokenizer& pretokenizer, std::string_view text);
  size_t size() const { return used_; }

  // Calls visit(piece, count) for every piece, in an order of no meaning.
  template <class Visit>
  void each(Visit visit) const {
    for (const Slot& slot : slots_) {
      if (slot.count != 0) visit(std::string_view(arena_).substr(slot.offset, slot.length), slot.count);
    }
  }

 private:
  struct Slot {
    uint64_t hash = 0;
    size_t offset = 0, length = 0;  // in arena_
    int64_t count = 0;              // 0: empty
  };
  void grow();

  std::vector<Slot> slots_;
  std::string arena_;
  size_t used_ = 0;
};

struct PieceCount {
  std::string piece;
  int64_t count;
};

struct PieceCounts {
  std::vector<PieceCount> pieces;  // by bytes, ascending
  int64_t documents = 0;
  int64_t bytes = 0;
};

// Counts the pieces of all documents on the pool's threads. `progress` is given the bytes read so far.
PieceCounts count_pieces(const DocumentSource& documents, const PreTokenizer& pretokenizer, ThreadPool& pool,
                         const std::function<void(int64_t bytes)>& progress);

}  // namespace troupe::data
