#include "actors/data/tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <charconv>

#include "actors/data/tokenizer/tokenizer_files.h"
#include "runtime/base/check.h"

namespace troupe::data {
namespace {

constexpr size_t kParallelPiece = 256 << 10;  // bytes; small enough to balance, large enough to keep caches warm

struct KnownVocabulary {
  size_t ranks;
  std::string_view pattern;
  BpeTokenizer::SpecialTokens special_tokens;
};

// Published vocabularies whose rank files hold no special tokens.
KnownVocabulary known_vocabulary(size_t ranks) {
  if (ranks == 100256) {
    return {ranks,
            "cl100k",
            {{"<|endoftext|>", 100257},
             {"<|fim_prefix|>", 100258},
             {"<|fim_middle|>", 100259},
             {"<|fim_suffix|>", 100260},
             {"<|endofprompt|>", 100276}}};
  }
  if (ranks == 128000) {
    KnownVocabulary llama{ranks, "llama3", {}};
    const std::string_view names[] = {"<|begin_of_text|>",
                                      "<|end_of_text|>",
                                      "<|reserved_special_token_0|>",
                                      "<|reserved_special_token_1|>",
                                      "<|finetune_right_pad_id|>",
                                      "<|reserved_special_token_2|>",
                                      "<|start_header_id|>",
                                      "<|end_header_id|>",
                                      "<|eom_id|>",
                                      "<|eot_id|>",
                                      "<|python_tag|>"};
    for (int32_t i = 0; i < 256; ++i) {
      const auto at = static_cast<size_t>(i);
      llama.special_tokens.emplace(
          at < std::size(names) ? std::string(names[at]) : fmt::format("<|reserved_special_token_{}|>", i - 8),
          128000 + i);
    }
    return llama;
  }
  return {ranks, "gpt2", {{"<|endoftext|>", static_cast<int32_t>(ranks)}}};
}

Result<std::vector<std::string>> parse_ranks(std::string_view text) {
  std::vector<std::string> tokens;
  size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    std::string token;
    int32_t rank = -1;
    const char* end = line.data() + line.size();
    if (space == std::string_view::npos || !from_base64(line.substr(0, space), token) || token.empty() ||
        std::from_chars(line.data() + space + 1, end, rank).ptr != end || rank < 0 || rank > (1 << 24)) {
      return damaged("line {} is not \"base64 rank\"", line_number);
    }
    const auto id = static_cast<size_t>(rank);
    if (id >= tokens.size()) tokens.resize(id + 1);
    if (!tokens[id].empty()) return damaged("line {}: rank {} was given before", line_number, rank);
    tokens[id] = std::move(token);
  }
  return tokens;
}

}  // namespace

// The ids of pieces that are no token as a whole, by their bytes: one place per hash, the last one wins.
class BpeTokenizer::WordCache {
 public:
  static constexpr size_t kMaxIds = 11;
  struct Entry {
    ShortKey key;
    int32_t count;
    int32_t ids[kMaxIds];
  };
  static_assert(sizeof(Entry) == 64);

  Entry& at(uint64_t hash) { return entries_[hash >> 48 & (kEntries - 1)]; }

  std::vector<int32_t> merged;  // scratch

 private:
  static constexpr size_t kEntries = 1 << 14;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

BpeTokenizer::~BpeTokenizer() = default;

BpeTokenizer::BpeTokenizer(BpeVocabulary vocabulary, SpecialTokens special_tokens, PreTokenizer pretokenizer)
    : vocabulary_(std::move(vocabulary)),
      special_tokens_(std::move(special_tokens)),
      special_names_(static_cast<size_t>(vocabulary_.size())),
      pretokenizer_(std::move(pretokenizer)) {
  for (const auto& [name, id] : special_tokens_) special_names_[static_cast<size_t>(id)] = name;
  Fingerprint hash;
  hash.add("bpe");
  hash.add(pretokenizer_.expression());
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    hash.add(vocabulary_.bytes_of(id));
    hash.add(special_names_[static_cast<size_t>(id)]);
  }
  fingerprint_ = hash.hex();
}

Result<std::unique_ptr<BpeTokenizer>> BpeTokenizer::create(std::vector<std::string> tokens,
                                                           SpecialTokens special_tokens, std::string_view pattern) {
  std::vector<bool> taken;
  for (const auto& [name, id] : special_tokens) {
    const auto at = static_cast<size_t>(id);
    if (id < 0 || name.empty()) return damaged("special token \"{}\" needs a name and an id ≥ 0", name);
    if (at >= tokens.size()) tokens.resize(at + 1);
    if (taken.size() < tokens.size()) taken.resize(tokens.size());
    if (!tokens[at].empty() || taken[at]) {
      return damaged("special token \"{}\" has id {}, which is another token's", name, id);
    }
    taken[at] = true;
  }
  PreTokenizer pretokenizer = TROUPE_TRY(PreTokenizer::create(pattern));
  BpeVocabulary vocabulary = TROUPE_TRY(BpeVocabulary::create(tokens));
  return std::unique_ptr<BpeTokenizer>(
      new BpeTokenizer(std::move(vocabulary), std::move(special_tokens), std::move(pretokenizer)));
}

Result<std::unique_ptr<BpeTokenizer>> BpeTokenizer::from_ranks(std::string_view ranks) {
  std::vector<std::string> tokens = TROUPE_TRY(parse_ranks(ranks));
  KnownVocabulary known = known_vocabulary(tokens.size());
  return create(std::move(tokens), std::move(known.special_tokens), known.pattern);
}

Result<std::unique_ptr<BpeTokenizer>> BpeTokenizer::from_ranks(std::string_view ranks, SpecialTokens special_tokens,
                                                               std::string_view pattern) {
  return create(TROUPE_TRY(parse_ranks(ranks)), std::move(special_tokens), pattern);
}

std::unique_ptr<BpeTokenizer::WordCache> BpeTokenizer::borrow_cache() const {
  {
    std::lock_guard lock(cache_mutex_);
    if (!idle_caches_.empty()) {
      auto cache = std::move(idle_caches_.back());
      idle_caches_.pop_back();
      return cache;
    }
  }
  return std::make_unique<WordCache>();
}

void BpeTokenizer::return_cache(std::unique_ptr<WordCache> cache) const {
  std::lock_guard lock(cache_mutex_);
  idle_caches_.push_back(std::move(cache));
}

std::vector<int32_t> BpeTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  auto cache = borrow_cache();
  encode_into(text, *cache, ids);
  return_cache(std::move(cache));
  return ids;
}

void BpeTokenizer::encode_into(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const {
  constexpr size_t kBatch = 256;  // pieces; keys are made first, so that the table's memory is on its way
  ids.reserve(ids.size() + text.size() / 4 + 16);
  const char* end = text.data() + text.size();
  const char* p = text.data();
  PieceCursor cursor(pretokenizer_, text);
  ShortKey keys[kBatch];
  uint64_t hashes[kBatch];
  int32_t out[kBatch * WordCache::kMaxIds];
  for (auto lengths = cursor.next(); !lengths.empty(); lengths = cursor.next()) {
    const char* q = p;
    for (size_t i = 0; i < lengths.size(); q += lengths[i++]) {
      if (lengths[i] > ShortKey::kMaxLength) continue;
      keys[i] = ShortKey::of(q, lengths[i], end);
      hashes[i] = keys[i].hash();
      vocabulary_.prefetch(hashes[i]);
    }
    size_t count = 0;
    for (size_t i = 0; i < lengths.size(); p += lengths[i++]) {
      const size_t length = lengths[i];
      const bool is_short = length <= ShortKey::kMaxLength;
      const int32_t whole = is_short ? vocabulary_.find(keys[i], hashes[i]) : vocabulary_.find(p, length, end);
      if (whole != BpeVocabulary::kNone) {
        out[count++] = whole;
        continue;
      }
      if (is_short) {
        const auto& entry = cache.at(hashes[i]);
        if (entry.key == keys[i]) {
          std::copy_n(entry.ids, WordCache::kMaxIds, out + count);
          count += static_cast<size_t>(entry.count);
          continue;
        }
      }
      cache.merged.clear();
      vocabulary_.merge({p, length}, end, cache.merged);
      if (cache.merged.size() > WordCache::kMaxIds) {
        ids.insert(ids.end(), out, out + count);
        count = 0;
        ids.insert(ids.end(), cache.merged.begin(), cache.merged.end());
        continue;
      }
      std::copy(cache.merged.begin(), cache.merged.end(), out + count);
      count += cache.merged.size();
      if (is_short) {
        auto& entry = cache.at(hashes[i]);
        entry.key = keys[i];
        entry.count = static_cast<int32_t>(cache.merged.size());
        std::copy(cache.merged.begin(), cache.merged.end(), entry.ids);
      }
    }
    ids.insert(ids.end(), out, out + count);
  }
}

std::vector<int32_t> BpeTokenizer::encode_parallel(std::string_view text, ThreadPool& pool) const {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t cut = pretokenizer_.safe_cut(text, std::min(text.size(), at + kParallelPiece));
    pieces.push_back(text.substr(at, cut - at));
    at = cut;
  }
  std::vector<std::vector<int32_t>> parts(pieces.size());
  pool.parallel_for(static_cast<int64_t>(pieces.size()),
                    [&](int64_t i) { parts[static_cast<size_t>(i)] = encode(pieces[static_cast<size_t>(i)]); });
  size_t count = 0;
  for (const auto& part : parts) count += part.size();
  std::vector<int32_t> ids;
  ids.reserve(count);
  for (const auto& part : parts) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

std::string_view BpeTokenizer::bytes_of(int32_t id) const {
  TROUPE_CHECK(id >= 0 && id < vocabulary_.size(), "token id {} is not below {}", id, vocabulary_.size());
  const std::string_view name = special_names_[static_cast<size_t>(id)];
  return name.empty() ? vocabulary_.bytes_of(id) : name;
}

std::optional<int32_t> BpeTokenizer::end_of_text() const {
  for (const std::string_view name : {"<|endoftext|>", "<|end_of_text|>"}) {
    if (const auto id = special_token(name)) return id;
  }
  return std::nullopt;
}

std::optional<int32_t> BpeTokenizer::special_token(std::string_view name) const {
  const auto found = special_tokens_.find(std::string(name));
  if (found == special_tokens_.end()) return std::nullopt;
  return found->second;
}

std::string BpeTokenizer::description() const {
  return fmt::format("byte-level BPE, {} tokens, pattern {}", vocabulary_.size(), pretokenizer_.pattern());
}

Status BpeTokenizer::save(const std::filesystem::path& folder) const {
  return save_ranks(folder / "tokenizer.tiktoken");
}

Status BpeTokenizer::save_ranks(const std::filesystem::path& rank_file) const {
  std::string ranks;
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view bytes = vocabulary_.bytes_of(id);
    if (!bytes.empty()) ranks += fmt::format("{} {}\n", to_base64(bytes), id);
  }
  TROUPE_TRY(write_file(rank_file, ranks));
  std::filesystem::path header = rank_file;
  return write_file(header.replace_extension(".toml"), format_header({.kind = "bpe",
                                                                      .vocabulary = rank_file.filename().string(),
                                                                      .vocabulary_size = vocabulary_.size(),
                                                                      .fingerprint = fingerprint_,
                                                                      .pattern = pretokenizer_.pattern(),
                                                                      .special_tokens = special_tokens_}));
}

}  // namespace troupe::data
