// A split that is measured as a whole: windows side by side, in order, the last one padded, so that every
// token but the first of a stream is a target exactly once and a sum over all of them is exact.
#pragma once
#include <cstdint>
#include <vector>

#include "actors/data/sequence_batch.h"
#include "actors/data/token_stream.h"
#include "actors/data/tokenizer/tokenizer.h"
#include "runtime/base/result.h"

namespace troupe::data {

// Immutable; may be called from several threads.
class ValidationSet {
 public:
  // `sequence_length` T ≥ 1. No window spans two streams; a stream of less than 2 tokens has no target.
  // Errors: usage (no target at all).
  static Result<ValidationSet> create(std::vector<TokenStream> streams, int64_t sequence_length,
                                      const Tokenizer& tokenizer, DocumentOptions options = {});

  // Sequences [begin, end) of count().
  SequenceBatch sequences(int64_t begin, int64_t end) const;

  int64_t count() const { return first_sequence_.back(); }
  int64_t target_count() const { return target_count_; }
  // Bytes of text that the targets stand for: bits per byte = summed loss / ln 2 / text_bytes().
  int64_t text_bytes() const { return text_bytes_; }
  int64_t sequence_length() const { return sequence_length_; }

 private:
  ValidationSet() = default;

  std::vector<TokenStream> streams_;
  std::vector<int64_t> first_sequence_;  // of each stream, then count()
  int64_t sequence_length_ = 0;
  int64_t target_count_ = 0;
  int64_t text_bytes_ = 0;
  DocumentOptions options_;
};

}  // namespace troupe::data
