// Byte-level BPE: GPT-2's family, tiktoken rank files, and what train_bpe() learns. Ids equal the
// reference encoder's for every UTF-8 text; invalid UTF-8 is encoded byte by byte like any other text.
//
// Files: tokenizer.tiktoken, one line "base64(token) rank" in order of rank, and beside it
// tokenizer.toml with kind, pattern, special tokens and fingerprint. A rank is an id.
#pragma once
#include <map>
#include <mutex>

#include "actors/data/tokenizer/bpe_vocabulary.h"
#include "actors/data/tokenizer/pretokenizer.h"
#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

class BpeTokenizer final : public Tokenizer {
 public:
  using SpecialTokens = std::map<std::string, int32_t>;

  // tokens[id] are the bytes of id, empty where a special token stands.
  // Errors: damaged (see BpeVocabulary::create; a special token on another's id), usage (bad pattern).
  static Result<std::unique_ptr<BpeTokenizer>> create(std::vector<std::string> tokens, SpecialTokens special_tokens,
                                                      std::string_view pattern);

  // From the text of a rank file. Without `pattern`, pattern and special tokens follow from the size.
  static Result<std::unique_ptr<BpeTokenizer>> from_ranks(std::string_view ranks);
  static Result<std::unique_ptr<BpeTokenizer>> from_ranks(std::string_view ranks, SpecialTokens special_tokens,
                                                          std::string_view pattern);

  ~BpeTokenizer() override;

  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<int32_t> encode_parallel(std::string_view text, ThreadPool& pool) const override;
  std::string_view bytes_of(int32_t id) const override;
  int32_t vocabulary_size() const override { return vocabulary_.size(); }
  std::optional<int32_t> end_of_text() const override;
  std::optional<int32_t> special_token(std::string_view name) const override;
  std::string_view kind() const override { return "bpe"; }
  std::string description() const override;
  std::string fingerprint() const override { return fingerprint_; }
  Status save(const std::filesystem::path& folder) const override;

  // As save, to NAME.tiktoken and NAME.toml for a path NAME.tiktoken.
  Status save_ranks(const std::filesystem::path& rank_file) const;

  const PreTokenizer& pretokenizer() const { return pretokenizer_; }

 private:
  class WordCache;

  BpeTokenizer(BpeVocabulary vocabulary, SpecialTokens special_tokens, PreTokenizer pretokenizer);
  void encode_into(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const;
  std::unique_ptr<WordCache> borrow_cache() const;
  void return_cache(std::unique_ptr<WordCache> cache) const;

  BpeVocabulary vocabulary_;  // a special token is an empty string here, so that no text can become it
  SpecialTokens special_tokens_;
  std::vector<std::string_view> special_names_;  // [vocabulary], empty for plain tokens
  PreTokenizer pretokenizer_;
  std::string fingerprint_;
  mutable std::mutex cache_mutex_;
  mutable std::vector<std::unique_ptr<WordCache>> idle_caches_;
};

}  // namespace troupe::data
