// How the blocks of a decoder are divided over the chunks of a pipeline.
//
// The rule: the embedding counts as a tenth of a block, so little that it only decides between chunks that are
// otherwise the same; the head counts as the blocks that its product with the vocabulary costs. Every chunk gets one
// block, and each further block goes to the chunk with the least work; of equals to the one whose stage has the least,
// then to the latest, since later stages hold fewer live microbatches. No other division has a smaller greatest chunk.
#pragma once
#include <vector>

#include "parallel/model/decoder_config.h"

namespace troupe::parallel {

// In blocks: what the first and the last chunk have to do beside theirs.
struct EdgeWork {
  double embedding = 0.1;
  double head = 0;
};

// For sequences of `length` tokens. REQUIRES: config is complete.
EdgeWork edge_work(const DecoderConfig& config, int64_t length);

// Blocks of every chunk, in the order of the model; their sum is `layers`. REQUIRES: a block for each chunk.
std::vector<int> divide_layers(int layers, int stages, int virtual_stages, EdgeWork edges);

}  // namespace troupe::parallel
