#include "actors/data/tokenizer/piece_counter.h"

#include <xxhash.h>

#include <algorithm>

namespace troupe::data {
namespace {

constexpr size_t kBatchBytes = 16 << 20;   // text gathered before the threads get to work
constexpr size_t kShareBytes = 512 << 10;  // text that one of them takes at a time

}  // namespace

void PieceCounter::add(std::string_view piece, int64_t count) {
  const uint64_t hash = XXH3_64bits(piece.data(), piece.size());
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    Slot& slot = slots_[at];
    if (slot.count == 0) {
      slot = {hash, arena_.size(), piece.size(), count};
      arena_ += piece;
      if (++used_ * 2 > slots_.size()) grow();
      return;
    }
    if (slot.hash == hash && std::string_view(arena_).substr(slot.offset, slot.length) == piece) {
      slot.count += count;
      return;
    }
  }
}

void PieceCounter::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.count == 0) continue;
    size_t at = slot.hash & mask;
    while (slots_[at].count != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

void PieceCounter::add_text(const PreTokenizer& pretokenizer, std::string_view text) {
  PieceCursor cursor(pretokenizer, text);
  size_t at = 0;
  for (auto lengths = cursor.next(); !lengths.empty(); lengths = cursor.next()) {
    for (const size_t length : lengths) {
      add(text.substr(at, length), 1);
      at += length;
    }
  }
}

PieceCounts count_pieces(const DocumentSource& documents, const PreTokenizer& pretokenizer, ThreadPool& pool,
                         const std::function<void(int64_t)>& progress) {
  std::vector<PieceCounter> counters(static_cast<size_t>(pool.size()));
  PieceCounts result;
  std::string batch;                     // small documents, one after another
  std::vector<std::string_view> shares;  // what the threads take
  const auto cut = [&](std::string_view text) {
    while (!text.empty()) {
      const size_t size = pretokenizer.safe_cut(text, std::min(kShareBytes, text.size()));
      shares.push_back(text.substr(0, size));
      text.remove_prefix(size);
    }
  };
  const auto count = [&] {
    pool.parallel_for_thread(static_cast<int64_t>(shares.size()), [&](int64_t index, int thread) {
      counters[static_cast<size_t>(thread)].add_text(pretokenizer, shares[static_cast<size_t>(index)]);
    });
    shares.clear();
    if (progress) progress(result.bytes);
  };
  std::vector<size_t> ends;  // of the documents in the batch
  const auto count_batch = [&] {
    size_t begin = 0;
    for (const size_t end : ends) {
      cut(std::string_view(batch).substr(begin, end - begin));
      begin = end;
    }
    count();
    batch.clear();
    ends.clear();
  };
  while (const auto document = documents()) {
    ++result.documents;
    result.bytes += static_cast<int64_t>(document->size());
    if (document->size() >= kBatchBytes) {
      cut(*document);
      count();
      continue;
    }
    batch += *document;
    ends.push_back(batch.size());
    if (batch.size() >= kBatchBytes) count_batch();
  }
  count_batch();

  for (size_t i = 1; i < counters.size(); ++i) {
    counters[i].each([&](std::string_view piece, int64_t times) { counters[0].add(piece, times); });
    counters[i] = PieceCounter();
  }
  result.pieces.reserve(counters[0].size());
  counters[0].each(
      [&](std::string_view piece, int64_t times) { result.pieces.push_back({std::string(piece), times}); });
  std::sort(result.pieces.begin(), result.pieces.end(),
            [](const PieceCount& a, const PieceCount& b) { return a.piece < b.piece; });
  return result;
}

}  // namespace troupe::data
