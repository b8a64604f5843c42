#include "actors/data/sequence_batch.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "runtime/base/check.h"

namespace troupe::data {

void append_window(SequenceBatch& batch, const TokenStream& stream, int64_t begin, int64_t sequence_id,
                   const DocumentOptions& options) {
  const int64_t T = batch.sequence_length;
  const int64_t targets = std::min(T, stream.size() - begin - 1);
  TROUPE_CHECK(T > 0 && begin >= 0 && targets > 0, "window at {} of {} tokens, sequence length {}", begin,
               stream.size(), T);
  const size_t row = batch.tokens.size();
  const auto real = static_cast<size_t>(targets);
  const auto length = static_cast<size_t>(T);

  std::vector<int32_t> window(real + 1);
  stream.copy(begin, window);
  batch.tokens.resize(row + length, 0);
  batch.labels.resize(row + length, kIgnoredLabel);
  std::copy_n(window.begin(), real, batch.tokens.begin() + static_cast<int64_t>(row));
  std::copy_n(window.begin() + 1, real, batch.labels.begin() + static_cast<int64_t>(row));

  batch.positions.resize(row + length);
  const std::span<int32_t> positions = std::span(batch.positions).subspan(row);
  std::iota(positions.begin(), positions.end(), 0);
  if (options.document_mask || options.restart_positions) {
    std::vector<int32_t> first(length, static_cast<int32_t>(targets));
    stream.first_visible(begin, std::span(first).first(real));
    if (options.restart_positions) {
      for (size_t t = 0; t < length; ++t) positions[t] -= first[t];
    }
    if (options.document_mask) batch.first_visible.insert(batch.first_visible.end(), first.begin(), first.end());
  }
  batch.sequence_ids.push_back(sequence_id);
  batch.target_count += targets;
}

}  // namespace troupe::data
