#include "actors/train/microbatch.h"

#include <span>

namespace troupe::train {

using kernels::MemoryKind;
using kernels::Tensor;
using parallel::Axis;

MicrobatchLayout::MicrobatchLayout(const parallel::Mesh& mesh, int64_t sequence_length)
    : length_(sequence_length), tensor_ranks_(mesh.size(Axis::tensor)), tensor_rank_(mesh.rank(Axis::tensor)) {
  const int64_t ranks = mesh.size(Axis::context), rank = mesh.rank(Axis::context);
  const int64_t pieces = ranks > 1 ? 2 * ranks : 1, unit = pieces * tensor_ranks_;
  padded_ = (length_ + unit - 1) / unit * unit;
  const int64_t size = padded_ / pieces;
  const auto take = [&](int64_t piece) {
    for (int64_t i = 0; i < size; ++i) tokens_.push_back(piece * size + i);
  };
  take(rank);
  if (ranks > 1) take(pieces - 1 - rank);
}

parallel::Batch upload(const data::SequenceBatch& from, int64_t begin, int64_t end, const MicrobatchLayout& layout,
                       kernels::Device& device) {
  const int64_t T = from.sequence_length, B = end - begin;
  TROUPE_CHECK(T == layout.sequence_length(), "sequences of {} tokens, not {}", T, layout.sequence_length());
  const auto rows = [&](const std::vector<int32_t>& values, int32_t padding, std::span<const int64_t> columns) {
    std::vector<int32_t> part;
    part.reserve(static_cast<size_t>(B) * columns.size());
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t t : columns)
        part.push_back(b < from.size() && t < T ? values[static_cast<size_t>(b * T + t)] : padding);
    }
    return Tensor::from<int32_t>(device, part, {B, static_cast<int64_t>(columns.size())}, MemoryKind::buffers);
  };
  const std::span<const int64_t> all(layout.tokens());
  parallel::Batch batch;
  batch.length = layout.padded_length();
  batch.tokens = rows(from.tokens, 0, all);
  batch.labels = rows(from.labels, data::kIgnoredLabel, all);
  batch.positions = rows(from.positions, 0, all);
  if (!from.first_visible.empty()) batch.first_visible = rows(from.first_visible, 0, all);
  const std::span<const int64_t> shard = all.subspan(static_cast<size_t>(layout.first_between_layers()),
                                                     static_cast<size_t>(layout.tokens_between_layers()));
  batch.shard_positions = rows(from.positions, 0, shard);
  std::vector<int32_t> indices;
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t t : shard) indices.push_back(b < from.size() && t < T ? static_cast<int32_t>(t) : -1);
  }
  batch.shard_indices = Tensor::from<int32_t>(device, indices, batch.shard_positions.shape(), MemoryKind::buffers);
  std::vector<int64_t> ids(static_cast<size_t>(B), 0);
  for (int64_t b = begin; b < std::min(end, from.size()); ++b)
    ids[static_cast<size_t>(b - begin)] = from.sequence_ids[static_cast<size_t>(b)];
  batch.sequence_ids = Tensor::from<int64_t>(device, ids, {B}, MemoryKind::buffers);
  return batch;
}

}  // namespace troupe::train
