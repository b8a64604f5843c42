// Generator: prefill, then one token after another, from one model on one device.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "actors/data/tokenizer/tokenizer.h"
#include "actors/serve/sampling.h"
#include "parallel/model/decoder.h"
#include "runtime/base/clock.h"

namespace troupe::serve {

struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  std::vector<std::string> stop;  // ends before the first occurrence of any of these
};

enum class FinishReason : uint8_t { length, end_of_text, stop, context, cancelled };
std::string_view name_of(FinishReason reason);

struct GenerateReport {
  std::string text;  // without the prompt and without the stop string
  FinishReason reason = FinishReason::length;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;  // decode: all tokens after the first
};

class Generator {
 public:
  // The model's matrices should be packed (Decoder::pack). All outlive the generator.
  Generator(const parallel::Decoder& model, const data::Tokenizer& tokenizer, const Clock& clock)
      : model_(model), tokenizer_(tokenizer), clock_(clock) {}

  // Calls `on_text` with each piece of whole UTF-8 text as it is certain (a piece that could begin a stop
  // string is held back); false from it ends the generation. Errors (usage): the prompt is empty and the
  // tokenizer has no end-of-text to start from, or the prompt fills the model's context.
  Result<GenerateReport> generate(std::string_view prompt, const GenerateOptions& options,
                                  const std::function<bool(std::string_view)>& on_text) const;

 private:
  std::vector<float> next_logits(const std::vector<int32_t>& tokens, parallel::KvCache& cache) const;

  const parallel::Decoder& model_;
  const data::Tokenizer& tokenizer_;
  const Clock& clock_;
};

}  // namespace troupe::serve
