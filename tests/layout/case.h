// A case of the layout fuzzer: a model, data and a step's options, and a layout that must not change what it computes.
#pragma once
#include <optional>
#include <string>

#include "actors/train/trainer.h"

namespace troupe::layout {

using kernels::DType;

struct Case {
  // The same for one rank and the layout.
  parallel::DecoderConfig model;
  DType compute = DType::f64;
  int64_t sequence_length = 8;
  int64_t global_batch = 4;
  uint64_t data_seed = 1;
  bool documents = false;   // packed, seen by themselves alone
  double target_share = 1;  // how many tokens are targets; differs from sequence to sequence
  bool clip = false;        // below the norm
  int64_t balance_loss_percent = 0, z_loss_percent = 0, bias_rate_permille = 0;  // of routers
  int64_t dropout_percent = 0, label_smoothing_percent = 0;
  bool softcaps = false;  // on attention and logits
  bool sgd = false;       // else AdamW
  int64_t steps = 1;

  // One rank's.
  int64_t reference_micro_batch = 4;
  // The layout's.
  parallel::MeshSizes mesh;
  train::Sharing sharing;
  int64_t micro_batch = 1;
  parallel::Recompute recompute = parallel::Recompute::none;
  int64_t exchange = 0;  // of context ranks: 0 as the model chooses, 1 ring, 2 gather

  // Words "key=value", of which parse() makes the same case; what is as above is left out.
  std::string to_string() const;
};

// The case of a seed; layouts of at most `max_ranks`. In f32 and bf16 fewer steps are taken: what one rank and a layout
// round differently grows from step to step.
Case draw_case(uint64_t seed, DType compute = DType::f64, int max_ranks = 16);
Result<Case> parse_case(const std::string& text);
// Whether it fits words like "ranks.tensor>1 tied=1 zero<2": names as in a case's text, and of what follows from it:
// ranks, stage_ranks, replicas (data × context), sequence_ranks (context × tensor), microbatches, padding (tokens of a
// sequence), vocabulary_padding, kv_sharing; ring (attention's exchange), pieces of a sequence that hold tokens, and
// second_pieces, of the ranks that have two such; span (tokens that one attends to at most), local_experts (of a rank),
// unchosen_experts (by a token). Errors name the word.
Result<bool> fits(const Case& c, const std::string& words);
// Simpler ones that might fail too, the simplest first.
std::vector<Case> simpler_cases(const Case& of);

}  // namespace troupe::layout
