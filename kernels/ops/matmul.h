// Matrix products of two activations (a weight's is ops/linear.h), one or a batch of them.
#pragma once
#include "kernels/autograd/tape.h"
#include "kernels/ops/matmul_kernels.h"

namespace troupe::kernels {

// a, b of one floating dtype and three dimensions at least: [G…, rows, columns], leading dimensions alike, or
// two dimensions: one product. nt: [M, K] · [N, K]ᵀ, nn: [M, K] · [K, N], tn: [K, M]ᵀ · [K, N]. Returns [G…, M, N],
// that dtype, summed as matmul_kernels.h says. Keeps a and b.
Value matmul(Tape&, MatmulForm form, const Value& a, const Value& b);

}  // namespace troupe::kernels
