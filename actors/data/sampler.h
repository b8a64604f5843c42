// Which tokens a training step sees. The state is one integer: the number of sequences consumed so far.
// Sequence i is a pure function of the data, the options and i, so that any rank can ask for any part of
// a step's sequences, on any layout, and a run resumes with the number it stopped at.
#pragma once
#include <cstdint>
#include <vector>

#include "actors/data/mixture.h"
#include "actors/data/sequence_batch.h"
#include "actors/data/token_stream.h"
#include "runtime/base/result.h"

namespace troupe::data {

enum class Sampling {
  // Blocks of T tokens side by side from an offset drawn for each epoch, in an order drawn for each
  // epoch: every token is a target once an epoch, but for less than 2 T at the ends of the stream.
  shuffled,
  // Every sequence starts anywhere, each start equally likely.
  random,
};

struct SamplerOptions {
  int64_t sequence_length = 0;  // T, at least 1
  uint64_t seed = 0;
  Sampling sampling = Sampling::shuffled;
  DocumentOptions documents;
};

struct WeightedStream {
  TokenStream stream;
  double weight = 1;
};

// Immutable; may be called from several threads.
class Sampler {
 public:
  // Errors: usage (a stream shorter than T + 1 tokens; the mixture's).
  static Result<Sampler> create(std::vector<WeightedStream> streams, SamplerOptions options);

  // Sequences [begin, end). Cost: reads (end − begin) · (T + 1) mapped tokens.
  SequenceBatch sequences(int64_t begin, int64_t end) const;

  struct Place {
    int32_t dataset;
    int64_t epoch;  // of that dataset
    int64_t token;  // where the window starts in its stream
  };
  Place place(int64_t sequence) const;

  // Sequences that make one epoch of a dataset.
  int64_t windows_per_epoch(int32_t dataset) const;
  int64_t sequence_length() const { return options_.sequence_length; }

 private:
  Sampler(std::vector<TokenStream> streams, Mixture mixture, SamplerOptions options);

  std::vector<TokenStream> streams_;
  Mixture mixture_;
  SamplerOptions options_;
};

}  // namespace troupe::data
