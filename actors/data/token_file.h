// Token shards: the ids of many documents in one file that is mapped into memory. All integers are
// little-endian.
//
//   offset  bytes  what
//   0       8      "TRPTOKEN"
//   8       4      u32  version, 1
//   12      4      u32  bytes of a token w: 2 (u16) if the vocabulary has at most 65536 ids, else 4 (u32)
//   16      16     fingerprint of the tokenizer, 16 hexadecimal digits
//   32      8      u64  fingerprint of what the file was made from (prepare.h)
//   40      8      i64  id that separates documents, -1 if none does
//   48      8      u64  size of the vocabulary: every id is below it
//   56      8      zero
//   64      N·w    the tokens, then zeros up to a multiple of 8
//           8·(D+1)  u64  first token of each document, then N
//           8·(D+1)  u64  bytes of text before each document, then of all
//   the trailer, the last 48 bytes:
//           8      u64  N, tokens
//           8      u64  D, documents
//           8      u64  XXH3 (64 bits, seed 0) of the tokens, zeros behind them included
//           8      u64  XXH3 of the header, the two tables and the trailer so far, in this order
//           8      zero
//           8      "TRPTKEND"
//
// The separator stands before every document but the first and belongs to the document that it opens, so
// that a model which sees nothing but its own document still has something to predict the first token from.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "runtime/base/file.h"
#include "runtime/base/result.h"
#include "runtime/base/stop_check.h"

namespace troupe::data {

struct TokenFileInfo {
  std::string tokenizer_fingerprint;  // 16 characters
  uint64_t input_fingerprint = 0;
  std::optional<int32_t> separator;
  int32_t vocabulary_size = 0;
};

// Immutable; may be read from several threads. Positions count tokens from 0.
class TokenFile {
 public:
  // Maps the file and checks all but the tokens, which verify() does. Touches the index, not the tokens.
  // Errors: failed (cannot be opened), damaged (no token file, cut short, checksum).
  static Result<std::shared_ptr<const TokenFile>> open(const std::string& path);

  // Reads every token. Errors: damaged; interrupted.
  Status verify(const StopCheck& stop = {}) const;

  const std::string& path() const { return path_; }
  const TokenFileInfo& info() const { return info_; }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  uint64_t checksum() const { return token_checksum_; }  // of the tokens
  int64_t text_bytes() const { return static_cast<int64_t>(bytes_before_[documents_]); }

  int32_t token(int64_t position) const;
  // Tokens [begin, begin + out.size()).
  void copy(int64_t begin, std::span<int32_t> out) const;

  // The document that a token belongs to; O(log documents).
  int64_t document_of(int64_t position) const;
  // Its first token, separator included. REQUIRES: 0 ≤ document ≤ documents().
  int64_t document_begin(int64_t document) const { return static_cast<int64_t>(first_token_[document]); }
  int64_t text_bytes_before(int64_t document) const { return static_cast<int64_t>(bytes_before_[document]); }

 private:
  TokenFile(std::string path, MappedFile file) : path_(std::move(path)), file_(std::move(file)) {}
  Status parse();

  std::string path_;
  MappedFile file_;
  TokenFileInfo info_;
  uint32_t token_bytes_ = 0;
  int64_t tokens_ = 0;
  int64_t documents_ = 0;
  uint64_t token_checksum_ = 0;
  const uint64_t* first_token_ = nullptr;
  const uint64_t* bytes_before_ = nullptr;
};

// Writes a token file from front to back; the path holds nothing, or what it held, until finish().
class TokenFileWriter {
 public:
  // Several processes may write the same path: the last to finish stays. `files` must outlive the writer.
  // Errors: failed (cannot be written).
  static Result<TokenFileWriter> create(FileSystem& files, const std::string& path, TokenFileInfo info);
  TokenFileWriter(TokenFileWriter&&) noexcept;
  TokenFileWriter& operator=(TokenFileWriter&&) noexcept;
  ~TokenFileWriter();  // without finish(): leaves nothing behind

  // Adds to the document begun last, or begins one. `text_bytes` is what the tokens stand for. A document
  // without tokens vanishes. Errors: failed (disk full). REQUIRES: every id in [0, vocabulary_size).
  Status append(std::span<const int32_t> tokens, int64_t text_bytes, bool ends_document);

  int64_t tokens() const;

  // Ends the last document and puts the file in its place, on disk. Errors: failed.
  Status finish();

 private:
  struct State;
  explicit TokenFileWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::data
