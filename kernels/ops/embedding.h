// Embedding: a row of a table for each token. Learned positions are looked up the same way.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct EmbeddingKernels {
  // y[t, :] = table[tokens[t], :], converted to y's dtype; zeros where a token is negative. Tokens lie below V.
  void (*forward)(Device&, const Tensor& tokens, const Tensor& table, Tensor& y);
  // dtable[tokens[t], :] += dy[t, :], in the order of t for every element, but for negative tokens. dtable in the
  // accumulator's dtype.
  void (*backward)(Device&, const Tensor& tokens, const Tensor& dy, GradientTarget dtable);
};

// tokens i32 [..]; table [V, D]. Returns [.., D] in `output`. Keeps the tokens. Gradients of a token that
// occurs several times add in order of occurrence, whatever the threads.
// REQUIRES: 0 ≤ token < V, else CheckFailure with the token and its index.
Value embedding(Tape&, const Tensor& tokens, const Value& table, DType output);

}  // namespace troupe::kernels
