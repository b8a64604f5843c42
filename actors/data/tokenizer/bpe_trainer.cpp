#include "actors/data/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <chrono>
#include <queue>

#include "actors/data/tokenizer/piece_counter.h"

namespace troupe::data {
namespace {

// The distinct pieces as sequences of ids, and for every adjacent pair how often it occurs and in which
// pieces. merge() keeps the counts true by touching only the pieces that hold the pair.
class PairTable {
 public:
  struct Best {
    int64_t count;
    int32_t left, right;
    // Less than: is merged later.
    bool operator<(const Best& other) const {
      if (count != other.count) return count < other.count;
      if (left != other.left) return left > other.left;
      return right > other.right;
    }
  };

  explicit PairTable(const std::vector<PieceCount>& pieces) : slots_(1 << 16, kEmpty) {
    size_t total = 0;
    for (const auto& [piece, count] : pieces) total += piece.size();
    ids_.reserve(total);
    words_.reserve(pieces.size());
    for (const auto& [piece, count] : pieces) {
      if (piece.size() < 2) continue;
      const auto word = static_cast<uint32_t>(words_.size());
      words_.push_back({ids_.size(), piece.size(), count});
      for (size_t i = 0; i < piece.size(); ++i) {
        ids_.push_back(static_cast<unsigned char>(piece[i]));
        if (i > 0) add(ids_[ids_.size() - 2], ids_.back(), count, word);
      }
    }
    push_grown();
  }

  // The pair to be merged next; its count is 0 when there is none.
  Best next() {
    while (!queue_.empty()) {
      const Best best = queue_.top();
      queue_.pop();
      const int64_t count = pairs_[find(best.left, best.right)].count;
      if (count == best.count) return best;
      if (count > 0 && count < best.count) queue_.push({count, best.left, best.right});
    }
    return {0, 0, 0};
  }

  // Puts `id` in place of every occurrence of the pair, left to right.
  void merge(int32_t left, int32_t right, int32_t id) {
    std::vector<uint32_t> words = std::move(pairs_[find(left, right)].words);
    for (const uint32_t word : words) {
      Word& w = words_[word];
      int32_t* ids = ids_.data() + w.begin;
      size_t out = 0;
      for (size_t i = 0; i < w.length; ++i) {
        if (i + 1 < w.length && ids[i] == left && ids[i + 1] == right) {
          if (out > 0) {
            add(ids[out - 1], left, -w.count, word);
            add(ids[out - 1], id, w.count, word);
          }
          if (i + 2 < w.length) {
            add(right, ids[i + 2], -w.count, word);
            add(id, ids[i + 2], w.count, word);
          }
          ids[out++] = id;
          ++i;
        } else {
          ids[out++] = ids[i];
        }
      }
      w.length = out;
    }
    pairs_[find(left, right)].count = 0;
    push_grown();
  }

 private:
  struct Word {
    size_t begin, length;  // in ids_
    int64_t count;
  };
  struct Pair {
    int32_t left, right;
    int64_t count = 0;
    bool grown = false;
    std::vector<uint32_t> words;  // every word that holds the pair, and some that did
  };
  static constexpr uint32_t kEmpty = UINT32_MAX;

  static uint64_t hash(int32_t left, int32_t right) {
    uint64_t h = (static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right)) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
  }

  // The place of the pair in pairs_, made if it is missing.
  uint32_t find(int32_t left, int32_t right) {
    size_t mask = slots_.size() - 1;
    size_t at = hash(left, right) & mask;
    for (; slots_[at] != kEmpty; at = (at + 1) & mask) {
      const Pair& pair = pairs_[slots_[at]];
      if (pair.left == left && pair.right == right) return slots_[at];
    }
    const auto index = static_cast<uint32_t>(pairs_.size());
    slots_[at] = index;
    pairs_.push_back({left, right, 0, false, {}});
    if (pairs_.size() * 2 > slots_.size()) grow();
    return index;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, kEmpty);
    const size_t mask = slots_.size() - 1;
    for (uint32_t i = 0; i < pairs_.size(); ++i) {
      size_t at = hash(pairs_[i].left, pairs_[i].right) & mask;
      while (slots_[at] != kEmpty) at = (at + 1) & mask;
      slots_[at] = i;
    }
  }

  void add(int32_t left, int32_t right, int64_t count, uint32_t word) {
    const uint32_t index = find(left, right);
    Pair& pair = pairs_[index];
    pair.count += count;
    if (count < 0) return;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    if (!pair.grown) {
      pair.grown = true;
      grown_.push_back(index);
    }
  }

  void push_grown() {
    for (const uint32_t index : grown_) {
      Pair& pair = pairs_[index];
      pair.grown = false;
      if (pair.count > 0) queue_.push({pair.count, pair.left, pair.right});
    }
    grown_.clear();
  }

  std::vector<int32_t> ids_;
  std::vector<Word> words_;
  std::vector<uint32_t> slots_;  // open addressing into pairs_
  std::vector<Pair> pairs_;
  std::vector<uint32_t> grown_;  // pairs whose count rose since the queue saw them
  std::priority_queue<Best> queue_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<BpeTraining> train_bpe(const DocumentSource& documents, const BpeTrainingOptions& options, ThreadPool& pool) {
  const auto specials = static_cast<int64_t>(options.special_tokens.size());
  const int64_t wanted = options.vocabulary_size - 256 - specials;
  if (wanted < 0) {
    return usage_error("a vocabulary of {} is too small: 256 bytes and {} special token{} need {}",
                       options.vocabulary_size, specials, specials == 1 ? "" : "s", 256 + specials);
  }
  const PreTokenizer pretokenizer = TROUPE_TRY(PreTokenizer::create(options.pattern));
  BpeTraining result;
  auto start = std::chrono::steady_clock::now();
  const auto report = [&](int64_t merges) {
    if (options.progress) options.progress({result.bytes, merges, wanted});
  };
  PieceCounts counts = count_pieces(documents, pretokenizer, pool, [&](int64_t bytes) {
    result.bytes = bytes;
    report(0);
  });
  if (counts.pieces.empty()) return usage_error("a vocabulary cannot be learnt from an empty text");
  result.documents = counts.documents;
  result.bytes = counts.bytes;
  result.distinct_pieces = static_cast<int64_t>(counts.pieces.size());
  result.counting_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  PairTable table(counts.pieces);
  counts.pieces = {};
  std::vector<std::string> tokens;
  std::unordered_map<std::string, int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (int64_t merges = 0; merges < wanted;) {
    const auto best = table.next();
    if (best.count < std::max<int64_t>(options.min_pair_count, 1)) break;
    // Two pairs may join to the same bytes (ab+c, a+bc): they are one token, as they are for the encoder.
    std::string joined = tokens[static_cast<size_t>(best.left)] + tokens[static_cast<size_t>(best.right)];
    const auto [known, is_new] = ids.try_emplace(joined, static_cast<int32_t>(tokens.size()));
    table.merge(best.left, best.right, known->second);
    if (!is_new) continue;
    tokens.push_back(std::move(joined));
    if (++merges % 256 == 0) report(merges);
  }
  BpeTokenizer::SpecialTokens special_tokens;
  for (const std::string& name : options.special_tokens) {
    special_tokens.emplace(name, static_cast<int32_t>(tokens.size() + special_tokens.size()));
  }
  result.tokenizer = TROUPE_TRY(BpeTokenizer::create(std::move(tokens), std::move(special_tokens), options.pattern));
  result.merging_seconds = seconds_since(start);
  return result;
}

}  // namespace troupe::data
