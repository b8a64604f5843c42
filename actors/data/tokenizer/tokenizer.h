// Tokenizer: text (any bytes) to ids and back. Every kind is immutable once made, so that all members
// may be called from several threads at once. Bytes are never lost: for every kind but "characters"
// decode(encode(text)) == text, invalid UTF-8 included (a SentencePiece model that normalises text is
// the other exception; see sentencepiece_tokenizer.h).
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/thread_pool.h"

namespace troupe::data {

// Yields one document after another; nullopt at the end. A view is valid until the next call.
using DocumentSource = std::function<std::optional<std::string_view>()>;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text`. Special tokens that stand in the text are plain text.
  // REQUIRES: can_encode(text), which only a character vocabulary can fail; throws CheckFailure then.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;

  // The same ids, computed on the pool's threads where the kind can cut a text without changing them.
  virtual std::vector<int32_t> encode_parallel(std::string_view text, ThreadPool& pool) const;

  // An error that names the first character without an id, and its byte offset.
  virtual Status can_encode(std::string_view text) const;

  // encode, with can_encode's error instead of the exception.
  Result<std::vector<int32_t>> try_encode(std::string_view text) const;

  // The bytes that the ids stand for, exactly. REQUIRES: every id in [0, vocabulary_size()).
  virtual std::string decode(std::span<const int32_t> ids) const;

  // What one id adds to a text that has begun. The view lives as long as the tokenizer.
  // REQUIRES: id in [0, vocabulary_size()).
  virtual std::string_view bytes_of(int32_t id) const = 0;

  // Number of ids, special tokens included: the V of embedding and logits.
  virtual int32_t vocabulary_size() const = 0;

  // The id that ends a document, where the vocabulary has one.
  virtual std::optional<int32_t> end_of_text() const { return std::nullopt; }

  // The id of a special token by its name, such as "<|endoftext|>" or "</s>".
  virtual std::optional<int32_t> special_token(std::string_view name) const { return std::nullopt; }

  // "bpe", "sentencepiece", "characters" or "bytes".
  virtual std::string_view kind() const = 0;

  // One line for people, such as "byte-level BPE, 50257 tokens, pattern gpt2".
  virtual std::string description() const = 0;

  // 16 hexadecimal digits that depend on every id's meaning and on how text is cut, and on nothing
  // else: two tokenizers with equal fingerprints encode every text alike. Stable across versions.
  virtual std::string fingerprint() const = 0;

  // Writes tokenizer.toml and the vocabulary file into `folder` (made if missing), so that
  // load_tokenizer(folder) gives an equal tokenizer.
  virtual Status save(const std::filesystem::path& folder) const = 0;
};

// Makes the tokenizer that `spec` names. By content, whatever a file is called:
//   "bytes"                      256 bytes and an end of text
//   "characters"                 learnt from `training_text`, which it needs
//   a folder                     what save() wrote there
//   a tokenizer.toml             the same
//   a tiktoken rank file         lines "base64 rank"; a file NAME.toml beside NAME.tiktoken, if there is
//                                one, holds pattern and special tokens, else they follow from the
//                                size (GPT-2, cl100k, Llama 3; any other: pattern gpt2 and <|endoftext|>)
//   a SentencePiece model        .model
//   a character vocabulary file  as save() writes it
// Errors: usage (no such file, nothing that it knows), damaged (a file that contradicts itself).
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& spec, const DocumentSource& training_text = {});

}  // namespace troupe::data
