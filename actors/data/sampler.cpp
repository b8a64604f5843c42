#include "actors/data/sampler.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/random.h"

namespace troupe::data {
namespace {

// What is drawn for a dataset, each under a key of its own.
constexpr uint64_t kOrder = hash_name("data.sampler.order");
constexpr uint64_t kShift = hash_name("data.sampler.shift");
constexpr uint64_t kStart = hash_name("data.sampler.start");

}  // namespace

Result<Sampler> Sampler::create(std::vector<WeightedStream> streams, SamplerOptions options) {
  const int64_t T = options.sequence_length;
  TROUPE_CHECK(T > 0 && !streams.empty());
  std::vector<double> weights;
  std::vector<TokenStream> parts;
  for (WeightedStream& part : streams) {
    if (part.stream.size() < T + 1) {
      return usage_error("the training data has {} tokens, a sequence of {} needs at least {} ({})", part.stream.size(),
                         T, T + 1, part.stream.file().path());
    }
    weights.push_back(part.weight);
    parts.push_back(std::move(part.stream));
  }
  Mixture mixture = TROUPE_TRY(Mixture::create(weights));
  return Sampler(std::move(parts), std::move(mixture), options);
}

Sampler::Sampler(std::vector<TokenStream> streams, Mixture mixture, SamplerOptions options)
    : streams_(std::move(streams)), mixture_(std::move(mixture)), options_(options) {}

int64_t Sampler::windows_per_epoch(int32_t dataset) const {
  const int64_t targets = streams_[static_cast<size_t>(dataset)].size() - 1;
  // One block less than fits, so that the blocks can be shifted by any part of a block.
  return std::max(int64_t{1}, targets / options_.sequence_length - 1);
}

Sampler::Place Sampler::place(int64_t sequence) const {
  const auto [dataset, index] = mixture_.turn(sequence);
  const int64_t T = options_.sequence_length;
  const int64_t targets = streams_[static_cast<size_t>(dataset)].size() - 1;
  const int64_t windows = windows_per_epoch(dataset);
  const int64_t epoch = index / windows;
  const uint64_t key = derive_key(options_.seed, static_cast<uint64_t>(dataset));
  if (options_.sampling == Sampling::random) {
    const uint64_t starts = static_cast<uint64_t>(targets - T + 1);
    const uint64_t start = random_below(derive_key(key, kStart), static_cast<uint64_t>(index), starts);
    return {dataset, epoch, static_cast<int64_t>(start)};
  }
  const uint64_t block = permute(static_cast<uint64_t>(index % windows), static_cast<uint64_t>(windows),
                                 derive_key(key, kOrder, static_cast<uint64_t>(epoch)));
  const uint64_t shifts = static_cast<uint64_t>(targets - windows * T + 1);
  const uint64_t shift = random_below(derive_key(key, kShift), static_cast<uint64_t>(epoch), shifts);
  return {dataset, epoch, static_cast<int64_t>(shift) + static_cast<int64_t>(block) * T};
}

SequenceBatch Sampler::sequences(int64_t begin, int64_t end) const {
  TROUPE_CHECK(0 <= begin && begin <= end, "sequences {}-{}", begin, end);
  SequenceBatch batch;
  batch.sequence_length = options_.sequence_length;
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    const Place at = place(sequence);
    append_window(batch, streams_[static_cast<size_t>(at.dataset)], at.token, sequence, options_.documents);
  }
  return batch;
}

}  // namespace troupe::data
