#include "actors/data/validation_set.h"

#include <utility>

#include "runtime/base/check.h"

namespace troupe::data {

Result<ValidationSet> ValidationSet::create(std::vector<TokenStream> streams, int64_t sequence_length,
                                            const Tokenizer& tokenizer, DocumentOptions options) {
  TROUPE_CHECK(sequence_length > 0);
  ValidationSet set;
  set.sequence_length_ = sequence_length;
  set.options_ = options;
  set.first_sequence_.push_back(0);
  for (TokenStream& stream : streams) {
    const int64_t targets = stream.size() - 1;
    if (targets < 1) continue;
    const int64_t sequences = (targets + sequence_length - 1) / sequence_length;
    set.first_sequence_.push_back(set.first_sequence_.back() + sequences);
    set.target_count_ += targets;
    set.text_bytes_ += stream.text_bytes(1, stream.size(), tokenizer);
    set.streams_.push_back(std::move(stream));
  }
  if (set.target_count_ == 0) return usage_error("the validation data is too short: a loss needs at least 2 tokens");
  return set;
}

SequenceBatch ValidationSet::sequences(int64_t begin, int64_t end) const {
  TROUPE_CHECK(0 <= begin && begin <= end && end <= count(), "sequences {}-{} of {}", begin, end, count());
  SequenceBatch batch;
  batch.sequence_length = sequence_length_;
  size_t stream = 0;
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    while (sequence >= first_sequence_[stream + 1]) ++stream;
    append_window(batch, streams_[stream], (sequence - first_sequence_[stream]) * sequence_length_, sequence, options_);
  }
  return batch;
}

}  // namespace troupe::data
