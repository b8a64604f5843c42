// The one place where collectives do arithmetic: element by element, in the order of the inputs. Every backend
// reduces through here, so that bits do not depend on who computes a piece, or where it was cut.
#pragma once
#include <cstddef>
#include <span>

#include "parallel/comm/communicator.h"

namespace troupe::parallel {

// Every output[i] ← ((inputs[0][i] ⊕ inputs[1][i]) ⊕ inputs[2][i]) …, i < count. bf16 in f32, rounded once.
// Outputs may be inputs. Any alignment. REQUIRES: 1 input or more; not u8.
void reduce_in_order(kernels::DType, Reduction, std::span<const std::byte* const> inputs,
                     std::span<std::byte* const> outputs, int64_t count);

// to ← from, past this core's cache: for what another core reads next, which it does faster from memory than out of
// this one's cache. Visible to others after a release store that follows. REQUIRES: `to` aligned to 64; no overlap.
void copy_past_cache(std::byte* to, const std::byte* from, int64_t bytes);

}  // namespace troupe::parallel
