// The tokens of a byte-level BPE, found by their bytes, and the exact merge of one piece: again and
// again the adjacent pair whose joined bytes are the token of lowest id becomes that token, leftmost
// first (Sennrich et al. 2016 on bytes, as GPT-2 does it). An id is a token's rank.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/base/result.h"

namespace troupe::data {

// Up to 15 bytes and their number, in a form that compares and hashes in a few instructions.
struct ShortKey {
  static constexpr size_t kMaxLength = 15;
  uint64_t low = 0, high = 0;

  // REQUIRES: length ≤ 15. Reads 16 bytes from p where they lie before `readable_end`.
  static ShortKey of(const char* p, size_t length, const char* readable_end) {
    uint64_t words[2] = {0, 0};
    if (readable_end - p >= 16) [[likely]] {
      std::memcpy(words, p, 16);
    } else {
      std::memcpy(words, p, length);
    }
    // Shifts by 64 are avoided: length ≤ 15, so one of the two words is always cut.
    if (length >= 8) {
      words[1] &= (uint64_t{1} << 8 * (length - 8)) - 1;
    } else {
      words[0] &= (uint64_t{1} << 8 * length) - 1;
      words[1] = 0;
    }
    return {words[0], words[1] | static_cast<uint64_t>(length) << 56};
  }
  uint64_t hash() const {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(low ^ 0x9E3779B97F4A7C15u) * (high ^ 0xC2B2AE3D27D4EB4Fu);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  bool operator==(const ShortKey&) const = default;
};

class BpeVocabulary {
 public:
  static constexpr int32_t kNone = -1;

  // tokens[id] are the bytes of id; an empty string is an id that stands for nothing.
  // Errors: damaged, when two ids have the same bytes or one of the 256 bytes has no id.
  static Result<BpeVocabulary> create(const std::vector<std::string>& tokens);

  int32_t size() const { return static_cast<int32_t>(offsets_.size()) - 1; }

  std::string_view bytes_of(int32_t id) const {
    const auto at = static_cast<size_t>(id);
    return {arena_.data() + offsets_[at], offsets_[at + 1] - offsets_[at]};
  }

  // The id of exactly these bytes, or kNone. May read (never use) bytes between p + length and readable_end.
  int32_t find(const char* p, size_t length, const char* readable_end) const {
    if (length <= ShortKey::kMaxLength) [[likely]] {
      return find(ShortKey::of(p, length, readable_end));
    }
    return find_long({p, length});
  }
  int32_t find(const ShortKey& key) const { return find(key, key.hash()); }
  int32_t find(const ShortKey& key, uint64_t hash) const {
    for (size_t slot = hash & slot_mask_;; slot = (slot + 1) & slot_mask_) {
      if (slots_[slot] == key) return slot_ids_[slot];
      if (slots_[slot] == ShortKey{}) return kNone;
    }
  }

  // Starts to load the place where `hash` would be found.
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & slot_mask_]); }

  // Appends the ids of a piece, by merging alone: a piece that is a token as a whole is not looked up first.
  // O(n²) below some dozens of bytes, O(n log n) above.
  void merge(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const;

 private:
  BpeVocabulary() = default;

  int32_t find_long(std::string_view bytes) const;
  int32_t find_pair(unsigned char a, unsigned char b) const { return pair_ids_[a * 256u + b]; }
  void merge_short(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const;
  void merge_long(std::string_view piece, const char* readable_end, std::vector<int32_t>& ids) const;

  std::string arena_;  // all tokens' bytes, in order of id
  std::vector<size_t> offsets_;
  size_t longest_ = 0;
  size_t slot_mask_ = 0;
  std::vector<ShortKey> slots_;  // open addressing; an all-zero key is an empty slot
  std::vector<int32_t> slot_ids_;
  struct Hash {
    size_t operator()(std::string_view bytes) const;
  };
  std::unordered_map<std::string_view, int32_t, Hash> long_ids_;  // keys lie in arena_
  std::array<int32_t, 256> byte_ids_;
  std::vector<int32_t> pair_ids_;  // [256 · 256] tokens of two bytes
};

}  // namespace troupe::data
