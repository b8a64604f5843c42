// The decoder family: one configuration covers Llama-style and GPT-2-style models.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops/rope.h"
#include "kernels/ops/router.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

enum class NormKind : uint8_t { rms, layer };
enum class PositionKind : uint8_t { rope, learned };
enum class MlpKind : uint8_t { swiglu, geglu, gelu };
// What a block runs again in backward instead of keeping it.
enum class Recompute : uint8_t { none, attention, block };

using kernels::RouterScore;

// A mixture of experts: feed-forwards of which each token goes through a few. In place of the feed-forward of every
// block but the first `dense_layers`.
struct ExpertConfig {
  int64_t count = 0;         // E; 0: no mixture
  int64_t per_token = 2;     // k: the highest-scored, the lower index first among equals
  int64_t hidden = 0;        // hidden units of one expert; 0: the model's
  int64_t shared = 0;        // experts that every token goes through, unweighed (Dai et al. 2024, DeepSeekMoE)
  int64_t dense_layers = 0;  // blocks from the first on that stay dense
  RouterScore score = RouterScore::softmax;
  bool normalize = true;   // the k weights of a token are divided by their sum
  float scale = 1;         // and then multiplied by this
  float balance_loss = 0;  // α of the auxiliary loss, per sequence (DeepSeek-V3, eq. 17–20)
  float z_loss = 0;        // of the router's logits, per token (Zoph et al. 2022, eq. 5)
  float bias_rate = 0;     // γ of the bias that balances load without a loss (Wang et al. 2024, algorithm 1)
};

struct DecoderConfig {
  int64_t vocabulary = 0;
  int64_t context = 2048;  // longest sequence; the length of learned positions
  int64_t layers = 0;
  int64_t width = 0;       // D
  int64_t heads = 0;       // H
  int64_t kv_heads = 0;    // K
  int64_t head_width = 0;  // d; D / H unless set
  int64_t hidden = 0;      // F
  ExpertConfig experts;
  NormKind norm = NormKind::rms;
  PositionKind position = PositionKind::rope;
  MlpKind mlp = MlpKind::swiglu;
  bool biases = false;            // in linears (and in layer norms)
  bool attention_biases = false;  // in q, k and v alone (Qwen 2)
  bool tied = false;              // the head is the embedding
  bool qk_norm = false;           // RMS norm of every query and key head
  int64_t window = 0;             // sliding window in tokens; 0: none
  float attention_softcap = 0;    // cap·tanh(s / cap) on attention scores; 0: none
  float logit_softcap = 0;        // the same on logits
  float norm_epsilon = 1e-5f;
  float initial_deviation = 0.02f;
  float dropout = 0;
  kernels::RopeOptions rope;

  // Fills what follows from the rest (kv_heads, head_width, hidden) and checks that it fits together.
  Status complete();

  // Whether block `layer` has experts in place of its feed-forward.
  bool has_experts(int64_t layer) const { return experts.count > 0 && layer >= experts.dense_layers; }
  int64_t expert_layers() const { return experts.count > 0 ? layers - experts.dense_layers : 0; }

  int64_t parameters() const;            // every one once; a tied head not again
  int64_t parameters_active() const;     // those that one token goes through
  int64_t parameters_embedding() const;  // token and position tables, which cost no FLOPs
  // Floating-point operations of matrix products for one token of a sequence of `length`, forward only.
  // Attention counts what a causal (windowed) kernel computes: on average (length + 1) / 2 keys a query.
  // PaLM's 6N + 12·L·H·d·T for training (Chowdhery et al. 2022, appendix B) counts all T keys of a query, so
  // its second term is 2T / (T + 1) times ours; N are the weights of matrix products, the head's included.
  double forward_flops_per_token(int64_t length) const;
  // Forward and backward (twice the forward).
  double training_flops_per_token(int64_t length) const { return 3 * forward_flops_per_token(length); }
};

// Standard deviation of the matrices that write to the residual stream: smaller with depth, 1/√(2·layers)
// (Radford et al. 2019, section 2.3).
float residual_deviation(const DecoderConfig& config);

// "nano", "gpt2-124m", "llama-8b"…; an error names the nearest preset.
Result<DecoderConfig> decoder_preset(std::string_view name);
std::vector<std::string_view> decoder_presets();

}  // namespace troupe::parallel
