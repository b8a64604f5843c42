// A message's content as bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/wire/buffer.h"

namespace troupe::wire {

// One Cap'n Proto message (its segments, flat; see capnp.h) and the buffers that travel beside it.
struct Body {
  std::vector<std::byte> words;
  std::vector<Buffer> buffers;

  int64_t bytes() const {
    auto total = static_cast<int64_t>(words.size());
    for (const Buffer& buffer : buffers) total += static_cast<int64_t>(buffer.size());
    return total;
  }
};

}  // namespace troupe::wire
