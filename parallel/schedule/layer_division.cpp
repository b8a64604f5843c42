#include "parallel/schedule/layer_division.h"

#include <tuple>

#include "runtime/base/check.h"

namespace troupe::parallel {

EdgeWork edge_work(const DecoderConfig& config, int64_t length) {
  EdgeWork edges;
  const double head = 2 * static_cast<double>(config.width) * static_cast<double>(config.vocabulary);
  edges.head = head * static_cast<double>(config.layers) / (config.forward_flops_per_token(length) - head);
  return edges;
}

std::vector<int> divide_layers(int layers, int stages, int virtual_stages, EdgeWork edges) {
  const int chunks = stages * virtual_stages;
  TROUPE_CHECK(layers >= chunks && chunks >= 1, "{} blocks for {} chunks", layers, chunks);
  std::vector<int> blocks(static_cast<size_t>(chunks), 1);
  // Recounted rather than added up: chunks of as many blocks without edges are equal to the bit.
  const auto work = [&](int chunk) {
    return blocks[static_cast<size_t>(chunk)] + (chunk == 0 ? edges.embedding : 0) +
           (chunk == chunks - 1 ? edges.head : 0);
  };
  const auto stage_work = [&](int stage) {
    double sum = 0;
    for (int chunk = stage; chunk < chunks; chunk += stages) sum += work(chunk);
    return sum;
  };
  for (int left = layers - chunks; left > 0; --left) {
    int best = 0;
    for (int chunk = 1; chunk < chunks; ++chunk) {
      const auto key = [&](int c) { return std::tuple(work(c), stage_work(c % stages), -c); };
      if (key(chunk) < key(best)) best = chunk;
    }
    ++blocks[static_cast<size_t>(best)];
  }
  return blocks;
}

}  // namespace troupe::parallel
