// Layout: everything that decides which rank computes and holds what. The rules that a layout has to keep are here
// once, for training and for the planner.
#pragma once
#include <cstdint>
#include <string>

#include "parallel/mesh/mesh.h"
#include "parallel/model/decoder_config.h"
#include "parallel/schedule/schedule.h"

namespace troupe::parallel {

struct Layout {
  MeshSizes mesh;
  int zero = 0;  // 1: the optimizer is sharded over replicas, 2: and gradients, 3: and parameters
  Schedule schedule = Schedule::one_f_one_b;
  int virtual_stages = 1;  // of each pipeline rank

  Pipeline pipeline(int64_t microbatches) const {
    return {schedule, mesh.pipeline, virtual_stages, static_cast<int>(microbatches)};
  }
  int chunks() const { return mesh.pipeline * virtual_stages; }
  // "pipeline 2 × data 4 × tensor 2; ZeRO 1; interleaved, 4 virtual stages".
  std::string to_string() const;
  bool operator==(const Layout&) const = default;
};

// What a step works on, in sequences and tokens.
struct StepShape {
  int64_t global_batch = 1;  // sequences
  int64_t sequence_length = 1;
  int64_t micro_batch = 1;  // sequences of a rank and microbatch; 0: a rank's whole share at once

  int64_t sequences(const MeshSizes& mesh) const { return micro_batch > 0 ? micro_batch : global_batch / mesh.data; }
  int64_t microbatches(const MeshSizes& mesh) const { return global_batch / (mesh.data * sequences(mesh)); }
  // With the tokens that fill up the last piece: a context rank holds two equal pieces of a sequence (zigzag), and each
  // of its tensor ranks an equal part of both.
  int64_t padded_length(const MeshSizes& mesh) const {
    const int64_t unit = int64_t{mesh.tensor} * mesh.context * (mesh.context > 1 ? 2 : 1);
    return (sequence_length + unit - 1) / unit * unit;
  }
  // Of one microbatch on one context rank, padding included.
  int64_t tokens(const MeshSizes& mesh) const { return sequences(mesh) * padded_length(mesh) / mesh.context; }
};

// How many neighbours on the tensor axis have the same heads of keys and values (MeshSizes::kv_sharing).
int kv_sharing(const DecoderConfig& config, int tensor);

// Whether the model and its batch can be laid out so. The first rule that is broken, in this order:
//
//   tensor        divides heads and hidden units; divides kv_heads, or is a multiple of them, which are shared then
//   pipeline      as many blocks as chunks, or more; virtual stages are the interleaved schedule's (schedule.h)
//   expert        divides model.experts, and is 1 without experts; expert_tensor divides an expert's hidden units
//   expert ranks  expert · expert_tensor divides data · context · tensor
//   context       sequences have at least two tokens for each context rank
//   batch         global_batch = data · micro_batch · whole microbatches
//   interleaved   the pipeline divides the number of microbatches
//
// Sequences need not divide: they are padded in memory. ZeRO 0–3 goes with all of them. Errors (usage), one line: both
// numbers and the nearest valid ones. REQUIRES: config is complete; sizes ≥ 1 whose product is an int, 0 ≤ zero ≤ 3.
Status check_layout(const DecoderConfig& config, const Layout& layout, const StepShape& shape);
// Those of them that need no batch.
Status check_layout(const DecoderConfig& config, const Layout& layout);

}  // namespace troupe::parallel
