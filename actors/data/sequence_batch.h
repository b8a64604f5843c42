// What a training or validation step reads: B sequences of T positions, plain vectors on the host.
#pragma once
#include <cstdint>
#include <vector>

#include "actors/data/token_stream.h"

namespace troupe::data {

inline constexpr int32_t kIgnoredLabel = -100;

// All but sequence_ids and target_count are [B, T], row-major.
struct SequenceBatch {
  int64_t sequence_length = 0;         // T
  std::vector<int32_t> tokens;         // padding is 0
  std::vector<int32_t> labels;         // the next token of each position, or kIgnoredLabel
  std::vector<int32_t> positions;      // 0, 1, … along the sequence, or along each document
  std::vector<int32_t> first_visible;  // the first position that attention may see; empty: all of them
  std::vector<int64_t> sequence_ids;   // [B]
  int64_t target_count = 0;            // labels that count

  int64_t size() const { return static_cast<int64_t>(sequence_ids.size()); }  // B
};

struct DocumentOptions {
  bool document_mask = false;      // a token sees nothing but its own document
  bool restart_positions = false;  // positions count from the document's first token in the window
};

// Appends the window of `stream` that starts at `begin`, with T = batch.sequence_length. Where the stream
// has less than T + 1 tokens left, padding follows, a document of its own. REQUIRES: at least 2 left.
void append_window(SequenceBatch& batch, const TokenStream& stream, int64_t begin, int64_t sequence_id,
                   const DocumentOptions& options);

}  // namespace troupe::data
