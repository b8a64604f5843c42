#include "actors/serve/generator.h"

#include <algorithm>
#include <cmath>

namespace troupe::serve {
namespace {

using kernels::Tensor;

// The length of the longest tail of `text` that could be the beginning of a stop string or of a UTF-8
// character that has not ended: it waits for the next token.
size_t held_back(std::string_view text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = stop.empty() ? 0 : std::min(stop.size() - 1, text.size()); n > held; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) held = n;
    }
  }
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // inside a character: look further left for its lead byte
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    if (length > back) held = std::max(held, back);
    break;
  }
  return held;
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::length: return "length";
    case FinishReason::end_of_text: return "end of text";
    case FinishReason::stop: return "stop";
    case FinishReason::context: return "context";
    case FinishReason::cancelled: return "cancelled";
  }
  return "?";
}

// Runs `tokens` behind what the cache holds; the logits of the last one.
std::vector<float> Generator::next_logits(const std::vector<int32_t>& tokens, parallel::KvCache& cache) const {
  kernels::Device& device = model_.parameters().device();
  const int64_t T = static_cast<int64_t>(tokens.size());
  parallel::Batch batch;
  batch.tokens = Tensor::from<int32_t>(device, tokens, {1, T});
  std::vector<int32_t> positions(tokens.size());
  for (int64_t t = 0; t < T; ++t) positions[static_cast<size_t>(t)] = static_cast<int32_t>(cache.length + t);
  batch.positions = Tensor::from<int32_t>(device, positions, {1, T});
  batch.cache = &cache;
  kernels::Tape tape(device, kernels::Tape::Mode::no_gradient);
  const Tensor hidden = model_.forward(tape, batch).tensor();
  cache.length += T;
  const Tensor last = hidden.reshape({T, hidden.dim(-1)}).slice(T - 1, T);
  std::vector<float> logits = model_.logits(tape, tape.constant(last)).tensor().to_host<float>();
  // A model's vocabulary may be padded: only ids that mean something can come next.
  logits.resize(std::min(logits.size(), static_cast<size_t>(tokenizer_.vocabulary_size())));
  if (const float cap = model_.config().logit_softcap; cap > 0) {
    for (float& logit : logits) logit = cap * std::tanh(logit / cap);
  }
  return logits;
}

Result<GenerateReport> Generator::generate(std::string_view prompt, const GenerateOptions& options,
                                           const std::function<bool(std::string_view)>& on_text) const {
  TROUPE_CHECK(options.max_tokens >= 0, "{} tokens asked for", options.max_tokens);
  std::vector<int32_t> tokens = TROUPE_TRY(tokenizer_.try_encode(prompt));
  if (tokens.empty()) {
    if (!tokenizer_.end_of_text()) {
      return usage_error("--prompt is empty, and the {} tokenizer has no end-of-text to start from", tokenizer_.kind());
    }
    tokens.push_back(*tokenizer_.end_of_text());
  }
  const int64_t context = model_.config().context;
  GenerateReport report;
  report.prompt_tokens = static_cast<int64_t>(tokens.size());
  if (report.prompt_tokens >= context) {
    return usage_error("--prompt has {} tokens and the model's context is {}: nothing is left to generate",
                       report.prompt_tokens, context);
  }
  const int64_t capacity = std::min(context, report.prompt_tokens + options.max_tokens);
  parallel::KvCache cache = model_.make_cache(1, capacity);

  const double start = clock_.seconds();
  std::vector<float> logits = next_logits(tokens, cache);
  const double prefilled = clock_.seconds();
  report.prefill_seconds = prefilled - start;

  std::string text;  // all that was generated
  size_t given = 0;  // of it, what on_text has had
  const auto give = [&](size_t until) {
    if (until <= given) return true;
    const std::string_view piece = std::string_view(text).substr(given, until - given);
    given = until;
    return on_text(piece);
  };
  while (true) {
    if (report.generated_tokens == options.max_tokens) {
      report.reason = FinishReason::length;
      break;
    }
    const auto draw = static_cast<uint64_t>(report.generated_tokens);
    const int32_t token = sample_token(logits, tokens, options.sampling, draw);
    if (tokenizer_.end_of_text() == token) {
      report.reason = FinishReason::end_of_text;
      break;
    }
    tokens.push_back(token);
    ++report.generated_tokens;
    const size_t before = text.size();
    text += tokenizer_.bytes_of(token);
    size_t end = std::string::npos;
    for (const std::string& stop : options.stop) {
      if (stop.empty()) continue;
      const size_t from = before >= stop.size() ? before - stop.size() + 1 : 0;
      end = std::min(end, text.find(stop, from));
    }
    if (end != std::string::npos) {
      text.resize(end);
      report.reason = FinishReason::stop;
      break;
    }
    if (!give(text.size() - held_back(text, options.stop))) {
      report.reason = FinishReason::cancelled;
      break;
    }
    if (cache.length == context) {
      report.reason = FinishReason::context;
      break;
    }
    if (report.generated_tokens < options.max_tokens) logits = next_logits({token}, cache);
  }
  report.decode_seconds = clock_.seconds() - prefilled;
  if (report.reason != FinishReason::cancelled) give(text.size());
  report.text = std::move(text);
  return report;
}

}  // namespace troupe::serve
