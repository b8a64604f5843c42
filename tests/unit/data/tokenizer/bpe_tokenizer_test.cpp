#include "actors/data/tokenizer/bpe_tokenizer.h"

#include <gmock/gmock.h>

#include <map>
#include <thread>

#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  return tokens;
}

std::unique_ptr<BpeTokenizer> make(std::vector<std::string> merged, std::string_view pattern = "gpt2") {
  auto tokens = byte_tokens();
  for (auto& token : merged) tokens.push_back(std::move(token));
  const auto size = static_cast<int32_t>(tokens.size());
  auto result = BpeTokenizer::create(std::move(tokens), {{"<|endoftext|>", size}}, pattern);
  EXPECT_TRUE(result.ok());
  return *std::move(result);
}

// The definition, word by word: join the pair of lowest rank, leftmost first, until none can be joined.
std::vector<int32_t> merge_by_definition(const std::map<std::string, int32_t>& ranks, const std::string& piece) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    size_t best = parts.size();
    int32_t lowest = INT32_MAX;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find(parts[i] + parts[i + 1]);
      if (found != ranks.end() && found->second < lowest) lowest = found->second, best = i;
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  std::vector<int32_t> ids;
  for (const auto& part : parts) ids.push_back(ranks.at(part));
  return ids;
}

TEST(BpeTokenizer, MergesInOrderOfRank) {
  const auto tokenizer = make({"ab", "bc", "abc"});
  EXPECT_EQ(tokenizer->encode("abc"), (std::vector<int32_t>{258}));
  EXPECT_EQ(tokenizer->encode("abcbc"), (std::vector<int32_t>{258, 257}));
  EXPECT_EQ(tokenizer->encode("bcab"), (std::vector<int32_t>{257, 256}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{258, 257}), "abcbc");
  EXPECT_EQ(tokenizer->vocabulary_size(), 260);
  EXPECT_TRUE(tokenizer->encode("").empty());
}

TEST(BpeTokenizer, MergingEqualsItsDefinitionForPiecesOfEveryLength) {
  TextMaker maker(3);
  for (int round = 0; round < 20; ++round) {
    // Random tokens over three letters, some longer than the keys that fit in two words.
    std::map<std::string, int32_t> ranks;
    auto tokens = byte_tokens();
    for (int i = 0; i < 256; ++i) ranks[tokens[static_cast<size_t>(i)]] = i;
    for (int i = 0; i < 60; ++i) {
      std::string token;
      const size_t length = 2 + maker.below(i % 6 == 0 ? 20 : 4);
      while (token.size() < length) token += static_cast<char>('a' + maker.below(3));
      if (ranks.emplace(token, static_cast<int32_t>(tokens.size())).second) tokens.push_back(token);
    }
    const auto vocabulary = BpeVocabulary::create(tokens);
    ASSERT_TRUE(vocabulary.ok());
    for (const size_t length : {1u, 2u, 3u, 7u, 8u, 15u, 16u, 17u, 63u, 64u, 65u, 100u, 300u}) {
      std::string piece;
      const size_t letters = 1 + maker.below(3);
      while (piece.size() < length) piece += static_cast<char>('a' + maker.below(letters));
      std::vector<int32_t> ids;
      vocabulary->merge(piece, piece.data() + piece.size(), ids);
      ASSERT_EQ(ids, merge_by_definition(ranks, piece)) << piece;
    }
  }
}

TEST(BpeTokenizer, EncodesAMegabyteOfOneLetter) {
  const auto tokenizer = make({"aa", "aaaa", "aaaaaaaa", "aaaaaaaaaaaaaaaa"});
  const std::string text((1 << 20) + 5, 'a');
  std::vector<int32_t> expected(1 << 16, 259);
  expected.push_back(257);
  expected.push_back('a');
  EXPECT_EQ(tokenizer->encode(text), expected);
}

TEST(BpeTokenizer, KeepsAnyBytes) {
  const auto tokenizer = load(kTestFolder + "small.tiktoken");
  TextMaker maker(4);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = maker.bytes(maker.below(80));
    ASSERT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(BpeTokenizer, SeveralThreadsEncodeAsOneDoes) {
  const auto tokenizer = load(kTestFolder + "small.tiktoken");
  TextMaker maker(5);
  std::string text = maker.bytes(200000);
  text += std::string(600000, 'x');  // a stretch without a place to cut
  while (text.size() < 2000000) text += maker.text(50) + " some plain words here\n";
  const auto expected = tokenizer->encode(text);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(tokenizer->encode_parallel(text, pool), expected);
  }
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] { EXPECT_EQ(tokenizer->encode(text), expected); });
  }
  for (auto& caller : callers) caller.join();
  ThreadPool pool(2);
  EXPECT_TRUE(tokenizer->encode_parallel("", pool).empty());
}

TEST(BpeTokenizer, SpecialTokensAreNeverMadeFromText) {
  const auto tokenizer = make({"<|", "|>"});
  const auto ids = tokenizer->encode("<|endoftext|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 258), 0);
  EXPECT_EQ(tokenizer->end_of_text(), 258);
  EXPECT_EQ(tokenizer->special_token("<|endoftext|>"), 258);
  EXPECT_EQ(tokenizer->special_token("<|"), std::nullopt);
  EXPECT_EQ(tokenizer->bytes_of(258), "<|endoftext|>");
  EXPECT_THROW(tokenizer->bytes_of(259), std::logic_error);
  EXPECT_THROW(tokenizer->bytes_of(-1), std::logic_error);
}

TEST(BpeTokenizer, FingerprintDependsOnTokensPatternAndSpecialTokens) {
  const auto base = make({"ab", "cd"});
  EXPECT_EQ(base->fingerprint(), make({"ab", "cd"})->fingerprint());
  EXPECT_NE(base->fingerprint(), make({"cd", "ab"})->fingerprint());
  EXPECT_NE(base->fingerprint(), make({"ab", "cd"}, "cl100k")->fingerprint());
  EXPECT_EQ(make({}, "llama3")->fingerprint(), make({}, "cl100k")->fingerprint());  // the same expression
  auto tokens = byte_tokens();
  tokens.push_back("ab");
  tokens.push_back("cd");
  EXPECT_NE(base->fingerprint(), (*BpeTokenizer::create(tokens, {{"<|end|>", 258}}, "gpt2"))->fingerprint());
  // Stable across versions: checkpoints compare it.
  EXPECT_EQ(load(kTestFolder + "small.tiktoken")->fingerprint(), "e79d702bc8b4bcd0");
}

TEST(BpeTokenizer, DamagedRankFilesAreNamedByLine) {
  const std::string good = read_test_file(kTestFolder + "small.tiktoken");
  const auto message = [](std::string_view ranks) {
    const auto result = BpeTokenizer::from_ranks(ranks);
    if (result.ok()) return std::string("ok");
    EXPECT_EQ(result.error().kind(), ErrorKind::damaged);
    return result.error().message();
  };
  EXPECT_EQ(message(good), "ok");
  EXPECT_THAT(message(good + "YWI= x\n"), HasSubstr("line 1001 is not \"base64 rank\""));
  EXPECT_THAT(message(good + "Y!I= 1000\n"), HasSubstr("line 1001"));
  EXPECT_THAT(message(good + "YWI= 7\n"), HasSubstr("rank 7 was given before"));
  EXPECT_THAT(message(good + "IQ== 1000\n"), HasSubstr("have the same bytes"));
  EXPECT_THAT(message(good.substr(good.find('\n') + 1)), HasSubstr("no token for the byte 0x00"));
  EXPECT_THAT(message(""), HasSubstr("no token for the byte"));
  const auto clash = BpeTokenizer::create(byte_tokens(), {{"<|end|>", 3}}, "gpt2");
  ASSERT_FALSE(clash.ok());
  EXPECT_THAT(clash.error().message(), HasSubstr("has id 3, which is another token's"));
}

}  // namespace
}  // namespace troupe::data
