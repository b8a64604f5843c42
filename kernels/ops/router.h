// Router of a mixture of experts: which k of E experts a token goes to, and how their results are weighed.
//
//   s = softmax(z) (Shazeer et al. 2017) or sigmoid(z) (DeepSeek-V3 2024, eq. 15)
//   chosen: the k highest of s + bias, of equals the lower index; the bias chooses only (Wang et al. 2024, algorithm 1)
//   w_j = scale · s_j, divided by the sum of the chosen s where that is asked for
//
// A token never sees another. Everything is computed in z's dtype, f32 or f64.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

enum class RouterScore : uint8_t { softmax, sigmoid };

struct RouterOptions {
  RouterScore score = RouterScore::softmax;
  int64_t per_token = 2;  // k ≤ E
  bool normalize = true;  // the k weights of a token are divided by their sum
  double scale = 1;       // and then multiplied by this
};

struct RouterChoice {
  Tensor scores;   // [B, n, E], z's dtype
  Tensor experts;  // i32 [B, n, k], the best first; -1: the token is padding and goes nowhere
};

// Gradients of losses of the router itself, which its backward adds to what comes through the weights.
struct RouterLossGradients {
  Tensor balance = {};  // f64 [B, E]: of each score of a sequence's tokens, after the scores are divided by their sum
                        // over experts; undefined: none
  double z_loss = 0;    // of logsumexp(z)² of each token
};

struct RouterKernels {
  void (*score)(Device&, RouterScore, const Tensor& z, Tensor& scores);
  // bias [E], as scores, or undefined; indices i32 [B, n] or undefined: negative where a token is padding.
  void (*choose)(Device&, const Tensor& scores, const Tensor& bias, const Tensor& indices, Tensor& experts);
  void (*weigh)(Device&, const RouterOptions&, const RouterChoice&, Tensor& weights);
  void (*statistics)(Device&, const Tensor& z, const RouterChoice&, Tensor& statistics);
  // dweights [B, n, k] or undefined. dz is written.
  void (*backward)(Device&, const RouterOptions&, const Tensor& z, const RouterChoice&, const Tensor& dweights,
                   const RouterLossGradients&, Tensor& dz);
};

// z [B, n, E] f32 or f64; bias [E] of that dtype or undefined; indices i32 [B, n] or undefined: negative where a token
// is padding; given i32 [B, n, k]: the experts, or undefined: they are chosen here.
// REQUIRES: 1 ≤ k ≤ E; given experts are different ones of a token, and -1 throughout where it is padding.
RouterChoice choose_experts(Device&, const Tensor& z, const RouterOptions&, const Tensor& bias = {},
                            const Tensor& indices = {}, const Tensor& given = {});

// f64 [B, 2E + 2], of each sequence's tokens without padding: how many chose each expert, the sum of each expert's
// score divided by the token's sum of scores, how many tokens there are, the sum of logsumexp(z)².
// Summed in the order of tokens.
Tensor router_statistics(Device&, const Tensor& z, const RouterChoice&);

// The weights [B, n, k] of the chosen experts, z's dtype; 0 for padding. Keeps z and the choice.
Value router_weights(Tape&, const Value& z, const RouterChoice&, const RouterOptions&, const RouterLossGradients& = {});

}  // namespace troupe::kernels
