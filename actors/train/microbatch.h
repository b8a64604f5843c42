// From sequences on the host to what one rank of a mesh computes with.
#pragma once
#include <vector>

#include "actors/data/sequence_batch.h"
#include "parallel/mesh/mesh.h"
#include "parallel/model/batch.h"

namespace troupe::train {

// Which tokens of a sequence a rank has. Sequences are padded, in memory only, so that they divide. Context rank r of c
// has two of 2c equal pieces, r and 2c − 1 − r: causal attention costs all ranks the same (zigzag). Tensor ranks divide
// these among themselves in order, between layers.
class MicrobatchLayout {
 public:
  MicrobatchLayout(const parallel::Mesh& mesh, int64_t sequence_length);

  int64_t sequence_length() const { return length_; }
  int64_t padded_length() const { return padded_; }
  // Index in the padded sequence of each token of this context rank.
  const std::vector<int64_t>& tokens() const { return tokens_; }
  int64_t tokens_between_layers() const { return static_cast<int64_t>(tokens_.size()) / tensor_ranks_; }
  int64_t first_between_layers() const { return tensor_rank_ * tokens_between_layers(); }

 private:
  int64_t length_, padded_;
  int64_t tensor_ranks_, tensor_rank_;
  std::vector<int64_t> tokens_;
};

// Sequences [begin, end) of `from`; those behind the last one are padding. Padding has token 0, no target, and is seen
// by no token but padding.
parallel::Batch upload(const data::SequenceBatch& from, int64_t begin, int64_t end, const MicrobatchLayout& layout,
                       kernels::Device& device);

}  // namespace troupe::train
