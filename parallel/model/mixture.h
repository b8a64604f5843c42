// A mixture of experts in place of a feed-forward: a router sends each token to k of E experts.   Shazeer et al. 2017;
// shared experts: Dai et al. 2024 (DeepSeekMoE).
//
// Every rank routes the tokens that it has between layers. Experts are divided over the expert axis, and each one's
// hidden units over the expert_tensor axis; rows travel (expert_exchange.h). Padding goes nowhere: experts give it
// zeros, and it counts in no statistic.
#pragma once
#include <memory>
#include <vector>

#include "kernels/ops/router.h"
#include "parallel/model/layers.h"

namespace troupe::parallel {

// Chooses experts, and knows the losses and the bias that keep their loads even. With N_s sequences and N_t tokens in a
// step, T in a sequence:
//
//   balance  α / N_s · Σ_sequences Σ_e f_e · P_e, where f_e = E / (k T) · tokens that chose e, without a gradient, and
//            P_e = mean over tokens of s_e / Σ s (DeepSeek-V3, eq. 17–20, with the experts chosen, bias included)
//   z-loss   coefficient / N_t · Σ_tokens logsumexp(z)² (Zoph et al. 2022, eq. 5)
//
// Both only while training; backward adds their gradients. Weight and logits stay wide under bf16.
class Router {
 public:
  Router(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);

  struct Result {
    Value weights;   // [B, n, k], wide
    Tensor experts;  // i32 [B, n, k]; -1: padding
  };
  // x [B, n, D]. Experts that batch.router has of this layer, else those that are replayed, else the best. Tells
  // batch.router, if it is there, experts, loads and losses. Communicates with the ranks that share the sequences where
  // there is a balance loss.
  Result operator()(Tape&, const Value& x, const Batch&) const;

  // Moves the bias by the rate towards experts with fewer tokens than the mean, away from those with more (Wang et al.
  // 2024, algorithm 1). loads [E]: of the step, over all ranks. Nothing without a bias.
  void balance(const std::vector<int64_t>& loads);

 private:
  kernels::RouterLossGradients find_losses(const Tensor& z, const kernels::RouterChoice&, const Batch&) const;

  ExpertConfig config_;
  kernels::RouterOptions options_;
  int layer_;
  Communicator* sequence_;
  Parameter* weight_;  // [E, D], replicated
  Parameter* bias_;    // [E], a state; or null
};

// Feed-forwards without biases, stacked.
class Experts {
 public:
  Experts(ParameterSet&, const std::string& name, const DecoderConfig&);
  // rows [R, D] by expert, offsets of each of this rank's experts and R → [R, D]; of this expert_tensor rank's hidden
  // units, of dtype `output` (kernels/ops/grouped_linear.h).
  Value operator()(Tape&, const Value& rows, const std::vector<int64_t>& offsets, DType output) const;

 private:
  MlpKind mlp_;
  Parameter *gate_ = nullptr, *up_;  // [E, F, D]; gate: null unless gated
  Parameter* down_;                  // [E, D, F]
};

// [B, n, D] → [B, n, D].
class MixtureOfExperts {
 public:
  MixtureOfExperts(ParameterSet&, const std::string& name, const DecoderConfig&, int layer);
  Value operator()(Tape&, const Value& x, const Batch&) const;
  Router& router() { return router_; }

 private:
  MeshGroups* groups_;
  int64_t count_;
  Router router_;
  Experts experts_;
  std::unique_ptr<FeedForward> shared_;  // null: none
};

}  // namespace troupe::parallel
