#include "actors/data/tokenizer/bpe_vocabulary.h"

#include <xxhash.h>

#include <bit>
#include <queue>

namespace troupe::data {
namespace {

constexpr size_t kShortPiece = 64;  // where the heap begins to win over the scan

}  // namespace

size_t BpeVocabulary::Hash::operator()(std::string_view bytes) const { return XXH3_64bits(bytes.data(), bytes.size()); }

Result<BpeVocabulary> BpeVocabulary::create(const std::vector<std::string>& tokens) {
  BpeVocabulary v;
  v.offsets_.reserve(tokens.size() + 1);
  v.offsets_.push_back(0);
  for (const std::string& token : tokens) {
    v.arena_ += token;
    v.offsets_.push_back(v.arena_.size());
    v.longest_ = std::max(v.longest_, token.size());
  }
  v.slots_.resize(std::bit_ceil(std::max<size_t>(tokens.size(), 256) * 2));
  v.slot_ids_.resize(v.slots_.size(), kNone);
  v.slot_mask_ = v.slots_.size() - 1;
  v.byte_ids_.fill(kNone);
  v.pair_ids_.assign(size_t{256} * 256, kNone);
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string& token = tokens[id];
    const auto number = static_cast<int32_t>(id);
    if (token.empty()) continue;
    const char* end = token.data() + token.size();
    if (const int32_t other = v.find(token.data(), token.size(), end); other != kNone) {
      return damaged("tokens {} and {} have the same bytes", other, number);
    }
    if (token.size() > ShortKey::kMaxLength) {
      v.long_ids_.emplace(v.bytes_of(number), number);
      continue;
    }
    const ShortKey key = ShortKey::of(token.data(), token.size(), end);
    size_t slot = key.hash() & v.slot_mask_;
    while (v.slots_[slot] != ShortKey{}) slot = (slot + 1) & v.slot_mask_;
    v.slots_[slot] = key;
    v.slot_ids_[slot] = number;
    const auto byte = [&token](size_t i) { return static_cast<unsigned char>(token[i]); };
    if (token.size() == 1) v.byte_ids_[byte(0)] = number;
    if (token.size() == 2) v.pair_ids_[byte(0) * 256u + byte(1)] = number;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (v.byte_ids_[static_cast<size_t>(byte)] == kNone) {
      return damaged("no token for the byte 0x{:02X}: a byte-level vocabulary needs all 256", byte);
    }
  }
  return v;
}

int32_t BpeVocabulary::find_long(std::string_view bytes) const {
  if (bytes.size() > longest_) return kNone;
  const auto found = long_ids_.find(bytes);
  return found == long_ids_.end() ? kNone : found->second;
}

void BpeVocabulary::merge(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const {
  if (piece.size() <= kShortPiece) {
    merge_short(piece, readable_end, ids);
  } else {
    merge_long(piece, readable_end, ids);
  }
}

void BpeVocabulary::merge_short(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const {
  // Part i spans bytes start[i] to start[i + 1]; rank[i] is the token that parts i and i + 1 would make.
  constexpr uint32_t kNever = UINT32_MAX;
  static_assert(static_cast<uint32_t>(kNone) == kNever);
  uint32_t rank[kShortPiece + 1];
  int32_t id[kShortPiece + 1];
  uint8_t start[kShortPiece + 2];
  size_t parts = piece.size();
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  for (size_t i = 0; i < parts; ++i) {
    start[i] = static_cast<uint8_t>(i);
    id[i] = byte_ids_[bytes[i]];
    rank[i] = i + 1 < parts ? static_cast<uint32_t>(find_pair(bytes[i], bytes[i + 1])) : kNever;
  }
  start[parts] = static_cast<uint8_t>(parts);
  const auto joined = [&](size_t i) {
    if (i + 2 > parts) return kNever;
    const size_t length = static_cast<size_t>(start[i + 2] - start[i]);
    return static_cast<uint32_t>(find(piece.data() + start[i], length, readable_end));
  };
  while (parts > 1) {
    size_t best = 0;
    uint32_t lowest = rank[0];
    for (size_t i = 1; i + 1 < parts; ++i) {
      if (rank[i] < lowest) lowest = rank[i], best = i;
    }
    if (lowest == kNever) break;
    id[best] = static_cast<int32_t>(lowest);
    for (size_t i = best + 1; i + 1 < parts; ++i) {
      id[i] = id[i + 1];
      start[i] = start[i + 1];
      rank[i] = rank[i + 1];
    }
    --parts;
    start[parts] = static_cast<uint8_t>(piece.size());
    rank[best] = joined(best);
    if (best > 0) rank[best - 1] = joined(best - 1);
  }
  ids.insert(ids.end(), id, id + parts);
}

void BpeVocabulary::merge_long(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const {
  // A part is named by its first byte; `next` and `previous` link the parts that are left.
  struct Part {
    size_t next, previous;
    int32_t id;
    uint32_t rank;  // of this part joined with the next, as in merge_short
  };
  struct Candidate {
    uint32_t rank;
    size_t part;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : part > other.part; }
  };
  constexpr uint32_t kNever = UINT32_MAX;
  const size_t n = piece.size();
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  std::vector<Part> parts(n);
  std::vector<Candidate> heap;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t rank = i + 1 < n ? static_cast<uint32_t>(find_pair(bytes[i], bytes[i + 1])) : kNever;
    parts[i] = {i + 1, i - 1, byte_ids_[bytes[i]], rank};
    if (rank != kNever) heap.push_back({rank, i});
  }
  std::priority_queue queue(std::greater<Candidate>{}, std::move(heap));
  const auto refresh = [&](size_t i) {
    Part& part = parts[i];
    part.rank = kNever;
    if (part.next >= n) return;
    const size_t length = parts[part.next].next - i;
    part.rank = static_cast<uint32_t>(find(piece.data() + i, length, readable_end));
    if (part.rank != kNever) queue.push({part.rank, i});
  };
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Part& part = parts[best.part];
    if (part.rank != best.rank) continue;  // it has changed since; joined bytes never repeat a rank
    Part& absorbed = parts[part.next];
    absorbed.rank = kNever;
    part.id = static_cast<int32_t>(best.rank);
    part.next = absorbed.next;
    if (part.next < n) parts[part.next].previous = best.part;
    refresh(best.part);
    if (best.part > 0) refresh(part.previous);
  }
  for (size_t i = 0; i < n; i = parts[i].next) ids.push_back(parts[i].id);
}

}  // namespace troupe::data
