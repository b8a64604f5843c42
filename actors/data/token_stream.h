// A run of a token file's tokens, such as the head that is trained on and the tail that is held out.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "actors/data/token_file.h"
#include "actors/data/tokenizer/tokenizer.h"

namespace troupe::data {

// Cheap to copy; immutable. Positions count from the start of the run.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<const TokenFile> file);
  // REQUIRES: 0 ≤ begin ≤ end ≤ file->tokens().
  TokenStream(std::shared_ptr<const TokenFile> file, int64_t begin, int64_t end);

  int64_t size() const { return end_ - begin_; }
  const TokenFile& file() const { return *file_; }

  void copy(int64_t begin, std::span<int32_t> out) const { file_->copy(begin_ + begin, out); }

  // For each position of a window, the position in the window at which its document begins, or 0 if that
  // lies before the window: what attention may see at most.
  void first_visible(int64_t begin, std::span<int32_t> out) const;

  // The last `fraction` of the tokens, and what comes before it: ⌊size · (1 − fraction)⌋ tokens.
  // REQUIRES: 0 < fraction < 1.
  std::pair<TokenStream, TokenStream> split_tail(double fraction) const;

  // Bytes of text that tokens [begin, end) stand for; separators stand for none. Exact for whole
  // documents; a cut within one is counted id by id, from the document's nearer end.
  int64_t text_bytes(int64_t begin, int64_t end, const Tokenizer& tokenizer) const;

 private:
  int64_t text_bytes_before(int64_t position, const Tokenizer& tokenizer) const;  // in the file

  std::shared_ptr<const TokenFile> file_;
  int64_t begin_;
  int64_t end_;
};

}  // namespace troupe::data
