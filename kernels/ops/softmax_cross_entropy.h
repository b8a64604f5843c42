// Softmax and cross-entropy of each row in one operation, so that neither probabilities nor a second
// array of logits ever exist:  loss = logsumexp(z) - z[label],  z = logits, soft-capped if asked.
// The running maximum and sum are those of Milakov & Gimelshein 2018 (online softmax), by blocks. Columns may be
// divided among ranks: each finds its part of the two sums, and the parts are joined in the order of ranks.
#pragma once
#include <functional>

#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct SoftmaxCrossEntropyOptions {
  int64_t vocabulary = 0;      // V: columns from here on are padding and never count; 0: all columns count
  int64_t first = 0;           // the column of the vocabulary that rows begin with
  double label_smoothing = 0;  // ε: the target is (1 - ε) · label + ε / V   (Szegedy et al. 2016)
  double softcap = 0;          // c > 0: z = c · tanh(logits / c)   (Gemma 2, 2024)
  double z_loss = 0;           // added: z_loss · logsumexp(z)²   (PaLM, Chowdhery et al. 2022)
};

struct SoftmaxCrossEntropyKernels {
  // Over the columns at hand: targets[r] = Σ target probability · z and logsumexp[r], in accumulator_of(logits). -inf
  // where no column counts, 0 and 0 where the label is negative.
  void (*forward)(Device&, const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions&,
                  Tensor& targets, Tensor& logsumexp);
  // The losses of rows whose columns stand in P parts: targets and parts [P, rows] → losses and logsumexp [rows].
  void (*join)(Device&, const Tensor& labels, const SoftmaxCrossEntropyOptions&, const Tensor& targets,
               const Tensor& parts, Tensor& losses, Tensor& logsumexp);
  // logits ← d losses / d logits · dlosses[row], in place; zero in padding and in ignored rows. logsumexp is that of
  // whole rows.
  void (*backward)(Device&, Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions&,
                   const Tensor& logsumexp, const Tensor& dlosses);
};

// How the parts [rows] of all ranks are brought together: [P, rows], P ≥ 1.
using GatherParts = std::function<Tensor(const Tensor& part)>;

// logits [rows, ≥ V] f64, f32 or bf16; labels i32 [rows], negative: ignored. Returns the loss of each row
// [rows], f32 (f64 for f64), 0 where ignored: callers weigh rows by the gradient that they pass to backward.
// Keeps logits and logsumexp [rows]. DESTROYS the logits' value: backward writes their gradient over it,
// and scales row r by the incoming gradient of loss r. Each row is computed alone.
// With `gather`, logits are the columns of one rank from options.first on, of options.vocabulary; the losses are the
// same on all ranks. REQUIRES: labels < V, else CheckFailure with the label and its row.
Value softmax_cross_entropy(Tape&, const Value& logits, const Tensor& labels,
                            const SoftmaxCrossEntropyOptions& options = {}, const GatherParts& gather = {});

}  // namespace troupe::kernels
