// Softmax and cross-entropy of each row in one operation, so that neither probabilities nor a second
// array of logits ever exist:  loss = logsumexp(z) - z[label],  z = logits, soft-capped if asked.
// The running maximum and sum are those of Milakov & Gimelshein 2018 (online softmax), by blocks.
#pragma once
#include "kernels/autograd/tape.h"

namespace troupe::kernels {

struct SoftmaxCrossEntropyOptions {
  int64_t vocabulary = 0;      // V, at most the row length: the rest is padding and never counts; 0: the row length
  double label_smoothing = 0;  // ε: the target is (1 - ε) · label + ε / V   (Szegedy et al. 2016)
  double softcap = 0;          // c > 0: z = c · tanh(logits / c)   (Gemma 2, 2024)
  double z_loss = 0;           // added: z_loss · logsumexp(z)²   (PaLM, Chowdhery et al. 2022)
};

struct SoftmaxCrossEntropyKernels {
  // losses and logsumexp [rows] in accumulator_of(logits); 0 where a label is negative.
  void (*forward)(Device&, const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions&,
                  Tensor& losses, Tensor& logsumexp);
  // logits ← d losses / d logits · dlosses[row], in place; zero in padding and in ignored rows.
  void (*backward)(Device&, Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions&,
                   const Tensor& logsumexp, const Tensor& dlosses);
};

// logits [rows, ≥ V] f64, f32 or bf16; labels i32 [rows], negative: ignored. Returns the loss of each row
// [rows], f32 (f64 for f64), 0 where ignored: callers weigh rows by the gradient that they pass to backward.
// Keeps logits and logsumexp [rows]. DESTROYS the logits' value: backward writes their gradient over it,
// and scales row r by the incoming gradient of loss r. Each row is computed alone.
// REQUIRES: labels < V, else CheckFailure with the label and its row.
Value softmax_cross_entropy(Tape&, const Value& logits, const Tensor& labels,
                            const SoftmaxCrossEntropyOptions& options = {});

}  // namespace troupe::kernels
