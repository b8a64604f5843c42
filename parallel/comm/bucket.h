// All-reduce of many tensors in few operations: a model has hundreds of parameters, most of them small, and each
// operation costs a meeting of all ranks.
#pragma once
#include <span>

#include "parallel/comm/communicator.h"

namespace troupe::parallel {

struct BucketOptions {
  int64_t piece_bytes = 25 << 20;  // small tensors are joined into flat copies of about this size
  int64_t large_bytes = 1 << 20;   // from here on a tensor goes as it is, uncopied
};

// Every tensor ← the reduction of every rank's, with the bits of all_reduce. Blocks. All ranks give tensors of the same
// sizes and dtypes in the same order; empty ones are fine. Allocates the flat copies of the small ones (buffers).
void all_reduce_together(Communicator&, std::span<const kernels::Tensor>, Reduction = Reduction::sum,
                         BucketOptions = {});

}  // namespace troupe::parallel
