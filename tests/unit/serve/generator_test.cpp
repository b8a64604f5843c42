#include "actors/serve/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "actors/data/tokenizer/byte_tokenizer.h"
#include "runtime/base/random.h"

namespace troupe::serve {
namespace {

using parallel::DecoderConfig;
using testing::HasSubstr;

constexpr int64_t kContext = 64;

// Ids are places in a list of pieces; a prompt of n bytes is n times id 0.
class PieceTokenizer final : public data::Tokenizer {
 public:
  PieceTokenizer(std::vector<std::string> pieces, std::optional<int32_t> end_of_text = {})
      : pieces_(std::move(pieces)), end_of_text_(end_of_text) {}
  std::vector<int32_t> encode(std::string_view text) const override { return std::vector<int32_t>(text.size(), 0); }
  std::string_view bytes_of(int32_t id) const override { return pieces_.at(static_cast<size_t>(id)); }
  int32_t vocabulary_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  std::string_view kind() const override { return "pieces"; }
  std::string description() const override { return "pieces"; }
  std::string fingerprint() const override { return "0"; }
  Status save(const std::filesystem::path&) const override { return failed("not saved"); }

 private:
  std::vector<std::string> pieces_;
  std::optional<int32_t> end_of_text_;
};

// A decoder that says script[p] at position p, whatever it reads: its layers add nothing, its position table
// is the unit matrix, and column p of its head picks script[p].
class ScriptedModel {
 public:
  ScriptedModel(const std::vector<int32_t>& script, int64_t vocabulary)
      : parameters_(*device_, parallel::Numerics::of(kernels::DType::f32), false),
        model_(config(vocabulary), parameters_) {
    for (parallel::Parameter* p : parameters_.all()) {
      std::vector<float> values(static_cast<size_t>(p->global_elements()));
      for (size_t i = 0; i < static_cast<size_t>(kContext); ++i) {
        if (p->name() == "position_embedding.weight") values[i * kContext + i] = 1;
        if (p->name() == "final_norm.weight") values[i] = 1;
        if (p->name() == "head.weight" && i < script.size()) {
          values[static_cast<size_t>(script[i]) * kContext + i] = 1;
        }
      }
      p->assign(kernels::Tensor::from<float>(*device_, values, p->spec().shape));
    }
  }
  const parallel::Decoder& operator()() const { return model_; }

 private:
  static DecoderConfig config(int64_t vocabulary) {
    DecoderConfig c;
    c.vocabulary = vocabulary;
    c.context = c.width = kContext;
    c.layers = c.heads = 1;
    c.hidden = 8;
    c.position = parallel::PositionKind::learned;
    TROUPE_CHECK(c.complete().ok());
    return c;
  }
  std::unique_ptr<kernels::Device> device_ = kernels::make_cpu_device(1);
  parallel::ParameterSet parameters_;
  parallel::Decoder model_;
};

struct Said {
  GenerateReport report;
  std::vector<std::string> pieces;
  std::string joined() const {
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    return text;
  }
};

// What comes after a prompt of one token from a model that says `script`.
Said generate(const std::vector<int32_t>& script, const data::Tokenizer& tokenizer, GenerateOptions options,
              int64_t padded_vocabulary = 0) {
  options.sampling.temperature = 0;
  const ScriptedModel model(script, std::max<int64_t>(tokenizer.vocabulary_size(), padded_vocabulary));
  const ManualClock clock;
  Said said;
  auto report = Generator(model(), tokenizer, clock).generate("p", options, [&](std::string_view piece) {
    said.pieces.emplace_back(piece);
    return true;
  });
  EXPECT_TRUE(report.ok()) << report.error().message();
  if (report.ok()) said.report = *report;
  return said;
}

std::vector<int32_t> bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

GenerateOptions tokens(int64_t count, std::vector<std::string> stop = {}) {
  GenerateOptions options;
  options.max_tokens = count;
  options.stop = std::move(stop);
  return options;
}

TEST(Generator, SaysAsManyTokensAsAsked) {
  const Said said = generate(bytes("hello there"), data::ByteTokenizer(), tokens(5));
  EXPECT_EQ(said.report.text, "hello");
  EXPECT_EQ(said.report.reason, FinishReason::length);
  EXPECT_EQ(said.report.prompt_tokens, 1);
  EXPECT_EQ(said.report.generated_tokens, 5);
  EXPECT_EQ(said.joined(), "hello");
  const Said nothing = generate(bytes("hello"), data::ByteTokenizer(), tokens(0));
  EXPECT_EQ(nothing.report.text, "");
  EXPECT_EQ(nothing.report.reason, FinishReason::length);
}

TEST(Generator, EndsAtTheEndOfText) {
  std::vector<int32_t> script = bytes("abc");
  script.push_back(data::ByteTokenizer::kEndOfText);
  const Said said = generate(script, data::ByteTokenizer(), tokens(50));
  EXPECT_EQ(said.report.text, "abc");
  EXPECT_EQ(said.report.reason, FinishReason::end_of_text);
  EXPECT_EQ(said.report.generated_tokens, 3);
}

TEST(Generator, EndsWhereTheContextIsFull) {
  const Said said = generate(bytes(std::string(kContext, 'x')), data::ByteTokenizer(), tokens(1000));
  EXPECT_EQ(said.report.reason, FinishReason::context);
  // The prompt's token takes one place; the last token that is said needs none.
  EXPECT_EQ(said.report.generated_tokens, kContext);
}

TEST(Generator, APromptThatFillsTheContextOrIsEmptyIsRefused) {
  const ScriptedModel model(bytes("x"), 257);
  const data::ByteTokenizer with_end;
  const PieceTokenizer without_end({"a", "b"});
  const ManualClock clock;
  const auto ignore = [](std::string_view) { return true; };
  const auto full = Generator(model(), with_end, clock).generate(std::string(kContext, 'y'), tokens(3), ignore);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().kind(), ErrorKind::usage);
  EXPECT_THAT(full.error().message(), HasSubstr("64"));
  const auto empty = Generator(model(), without_end, clock).generate("", tokens(3), ignore);
  ASSERT_FALSE(empty.ok());
  EXPECT_THAT(empty.error().message(), HasSubstr("--prompt is empty"));
  GenerateOptions greedy = tokens(1);
  greedy.sampling.temperature = 0;
  const auto begun = Generator(model(), with_end, clock).generate("", greedy, ignore);
  ASSERT_TRUE(begun.ok());
  EXPECT_EQ(begun->prompt_tokens, 1);
  EXPECT_EQ(begun->text, "x");
}

TEST(Generator, AStopStringAcrossTokensIsNeverShown) {
  const PieceTokenizer tokenizer({"he", "llo wo", "rld", "!"});
  const Said said = generate({0, 1, 2, 3, 3}, tokenizer, tokens(5, {"zzz", "o world"}));
  EXPECT_EQ(said.report.text, "hell");
  EXPECT_EQ(said.report.reason, FinishReason::stop);
  EXPECT_EQ(said.joined(), "hell");
  EXPECT_EQ(said.report.generated_tokens, 3);
  EXPECT_EQ(generate({0, 1, 2, 3, 3}, tokenizer, tokens(5, {"", "o wo"})).report.text, "hell");
  EXPECT_EQ(generate({0, 1, 2, 3, 3}, tokenizer, tokens(5, {"o wx"})).report.text, "hello world!!");
}

TEST(Generator, WhatCouldHaveBegunAStopStringComesOutInTheEnd) {
  const Said said = generate(bytes("abcabd"), data::ByteTokenizer(), tokens(5, {"abd"}));
  EXPECT_EQ(said.report.text, "abcab");
  EXPECT_EQ(said.joined(), "abcab");
}

TEST(Generator, PiecesAreWholeCharacters) {
  const std::string text = "aé€😀z";
  const Said said = generate(bytes(text), data::ByteTokenizer(), tokens(static_cast<int64_t>(text.size())));
  EXPECT_THAT(said.pieces, testing::ElementsAre("a", "é", "€", "😀", "z"));
  const std::string invalid =
      "\x80"
      "a\xFF\xC3(\xE2\x82";
  const Said raw = generate(bytes(invalid), data::ByteTokenizer(), tokens(static_cast<int64_t>(invalid.size())));
  EXPECT_EQ(raw.report.text, invalid);
  EXPECT_EQ(raw.joined(), invalid);
}

TEST(Generator, CancelsWhenTheReaderIsGone) {
  const ScriptedModel model(bytes("abcdef"), 257);
  const data::ByteTokenizer tokenizer;
  const ManualClock clock;
  GenerateOptions options = tokens(6);
  options.sampling.temperature = 0;
  int calls = 0;
  const auto report =
      Generator(model(), tokenizer, clock).generate("p", options, [&](std::string_view) { return ++calls < 3; });
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->reason, FinishReason::cancelled);
  EXPECT_EQ(report->generated_tokens, 3);
  EXPECT_EQ(calls, 3);
}

TEST(Generator, IdsThatPadTheModelsVocabularyAreNeverSaid) {
  const PieceTokenizer tokenizer({"a", "b"});
  const Said said = generate({1, 7, 1}, tokenizer, tokens(3), 8);
  EXPECT_EQ(said.report.text, "bab");  // where the model wants id 7, all real ids are alike: the lowest
}

// Every prefix of what is shown is certain, and the end is where the first stop string is complete.
TEST(Generator, MatchesASearchInTheWholeText) {
  RandomStream random{.key = 5};
  const std::vector<std::string> list{"a", "b", "ab", "ba", "é", "\xC3", "\xA9", "aab"};
  const PieceTokenizer tokenizer(list);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> script;
    std::string whole;
    std::vector<std::string> stops;
    for (uint64_t i = 2 + random.below(2); i > 0; --i) {
      std::string stop;
      for (uint64_t n = 1 + random.below(3); n > 0; --n) stop += list[random.below(5)];
      stops.push_back(stop);
    }
    size_t end = std::string::npos;
    for (int i = 0; i < 14; ++i) {
      script.push_back(static_cast<int32_t>(random.below(list.size())));
      if (end != std::string::npos) continue;
      whole += list[static_cast<size_t>(script.back())];
      for (const std::string& stop : stops) end = std::min(end, whole.find(stop));
    }
    const Said said = generate(script, tokenizer, tokens(14, stops));
    EXPECT_EQ(said.report.text, whole.substr(0, end)) << round;
    EXPECT_EQ(said.joined(), said.report.text) << round;
    EXPECT_EQ(said.report.reason, end == std::string::npos ? FinishReason::length : FinishReason::stop);
  }
}

// The logits behind every choice are those of a full forward pass over all tokens so far, to the bit.
TEST(Generator, ChoosesWhatAFullForwardPassChooses) {
  for (bool pack : {false, true}) {
    const auto device = kernels::make_cpu_device(2);
    DecoderConfig c;
    c.vocabulary = 257;
    c.context = 48;
    c.layers = 2;
    c.width = 32;
    c.heads = 4;
    c.kv_heads = 2;
    c.logit_softcap = 4;
    c.initial_deviation = 0.3f;
    ASSERT_TRUE(c.complete().ok());
    parallel::ParameterSet parameters(*device, parallel::Numerics::of(kernels::DType::f32), false);
    parallel::Decoder model(c, parameters);
    for (parallel::Parameter* p : parameters.all()) p->initialize(9);
    if (pack) model.pack();
    const data::ByteTokenizer tokenizer;
    const ManualClock clock;
    GenerateOptions options = tokens(30);
    options.sampling.temperature = 1;
    options.sampling.repetition_penalty = 1.3;
    options.sampling.seed = 3;
    const std::string prompt = "once upon";
    const auto report =
        Generator(model, tokenizer, clock).generate(prompt, options, [](std::string_view) { return true; });
    ASSERT_TRUE(report.ok());
    std::vector<int32_t> all = tokenizer.encode(prompt);
    std::string text;
    for (uint64_t draw = 0; draw < 30; ++draw) {
      const auto T = static_cast<int64_t>(all.size());
      parallel::Batch batch;
      batch.tokens = kernels::Tensor::from<int32_t>(*device, all, {1, T});
      std::vector<int32_t> positions(all.size());
      for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
      batch.positions = kernels::Tensor::from<int32_t>(*device, positions, {1, T});
      kernels::Tape tape(*device, kernels::Tape::Mode::no_gradient);
      const auto logits = model.logits(tape, model.forward(tape, batch)).tensor().to_host<float>();
      std::vector<float> last(logits.end() - 257, logits.end());
      for (float& logit : last) logit = 4 * std::tanh(logit / 4);
      const int32_t token = sample_token(last, all, options.sampling, draw);
      if (token == tokenizer.end_of_text()) break;
      all.push_back(token);
      text += tokenizer.bytes_of(token);
    }
    EXPECT_EQ(report->text, text);
  }
}

}  // namespace
}  // namespace troupe::serve
