// golden.jsonl holds texts and the ids that the original encoders gave them (make_golden.py).
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "actors/data/tokenizer/bpe_tokenizer.h"
#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {
namespace {

void expect_golden(const Tokenizer& tokenizer, const std::string& column, bool exact_bytes = true) {
  std::ifstream file(kTestFolder + "golden.jsonl");
  int texts = 0;
  for (std::string line; std::getline(file, line); ++texts) {
    const boost::json::value golden = boost::json::parse(line);
    const std::string text(golden.at("text").as_string());
    std::vector<int32_t> expected;
    for (const auto& id : golden.at(column).as_array()) expected.push_back(id.to_number<int32_t>());
    const auto ids = tokenizer.encode(text);
    ASSERT_EQ(ids, expected) << line;
    if (exact_bytes) {
      ASSERT_EQ(tokenizer.decode(ids), text) << line;
    }
  }
  EXPECT_GE(texts, 150);
}

TEST(TokenizerGolden, IdsOfGpt2EqualTheReferenceEncoders) {
  if (!std::filesystem::exists(kSharedFolder + "gpt2.tiktoken")) GTEST_SKIP() << "no gpt2.tiktoken";
  const auto tokenizer = load(kSharedFolder + "gpt2.tiktoken");
  EXPECT_EQ(tokenizer->vocabulary_size(), 50257);
  EXPECT_EQ(tokenizer->end_of_text(), 50256);
  EXPECT_EQ(tokenizer->description(), "byte-level BPE, 50257 tokens, pattern gpt2");
  expect_golden(*tokenizer, "gpt2");
}

TEST(TokenizerGolden, IdsOfASmallVocabularyEqualTheReferenceEncodersForBothPatterns) {
  const std::string ranks = read_test_file(kTestFolder + "small.tiktoken");
  for (const std::string pattern : {"gpt2", "cl100k"}) {
    auto tokenizer = BpeTokenizer::from_ranks(ranks, {}, pattern);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message();
    expect_golden(**tokenizer, "small_" + pattern);
  }
}

// The column "llama2" has U+2581 in a text, which SentencePiece itself takes for a space.
void expect_golden_sentencepiece(const Tokenizer& tokenizer, const std::string& column) {
  expect_golden(tokenizer, column, false);
  TextMaker maker(1);
  for (int i = 0; i < 300; ++i) {
    std::string text = maker.text(maker.below(40));
    if (text.find("\u2581") != std::string::npos) continue;
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(TokenizerGolden, IdsOfLlama2EqualTheLibrarys) {
  if (!std::filesystem::exists(kSharedFolder + "llama2_tokenizer.model")) GTEST_SKIP() << "no llama2_tokenizer.model";
  const auto tokenizer = load(kSharedFolder + "llama2_tokenizer.model");
  EXPECT_EQ(tokenizer->vocabulary_size(), 32000);
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  EXPECT_EQ(tokenizer->special_token("<s>"), 1);
  EXPECT_EQ(tokenizer->special_token("the"), std::nullopt);
  expect_golden_sentencepiece(*tokenizer, "llama2");
}

TEST(TokenizerGolden, IdsOfASmallSentencePieceBpeEqualTheLibrarys) {
  expect_golden_sentencepiece(*load(kTestFolder + "small_bpe.model"), "small_bpe");
}

TEST(TokenizerGolden, IdsOfAUnigramModelThatNormalisesWhiteSpaceEqualTheLibrarys) {
  expect_golden(*load(kTestFolder + "small_unigram.model"), "small_unigram", false);
}

}  // namespace
}  // namespace troupe::data
