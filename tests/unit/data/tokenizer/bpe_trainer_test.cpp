#include "actors/data/tokenizer/bpe_trainer.h"

#include <gmock/gmock.h>

#include <map>

#include "actors/data/tokenizer/piece_counter.h"
#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {
namespace {

using ::testing::HasSubstr;

Result<BpeTraining> train(std::vector<std::string> texts, int32_t size, int threads = 1) {
  ThreadPool pool(threads);
  BpeTrainingOptions options;
  options.vocabulary_size = size;
  return train_bpe(documents_of(std::move(texts)), options, pool);
}

std::vector<std::string> learnt(const BpeTokenizer& tokenizer) {
  std::vector<std::string> tokens;
  for (int32_t id = 256; id < tokenizer.vocabulary_size() - 1; ++id) tokens.emplace_back(tokenizer.bytes_of(id));
  return tokens;
}

// The definition: count all pairs anew for every merge.
std::vector<std::string> train_by_definition(const std::vector<std::string>& texts, size_t merges) {
  const auto pretokenizer = PreTokenizer::create("gpt2");
  ThreadPool pool(1);
  const PieceCounts counts = count_pieces(documents_of(texts), *pretokenizer, pool, {});
  std::vector<std::vector<int32_t>> words;
  for (const auto& [piece, count] : counts.pieces) {
    auto& word = words.emplace_back();
    for (const char c : piece) word.push_back(static_cast<unsigned char>(c));
  }
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  while (tokens.size() < 256 + merges) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;  // in order of left id, then right id
    for (size_t w = 0; w < words.size(); ++w) {
      for (size_t i = 0; i + 1 < words[w].size(); ++i) {
        pairs[{words[w][i], words[w][i + 1]}] += counts.pieces[w].count;
      }
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, count] : pairs) {
      if (count > most) most = count, best = pair;
    }
    if (most < 2) break;
    const std::string joined = tokens[static_cast<size_t>(best.first)] + tokens[static_cast<size_t>(best.second)];
    const auto known = std::find(tokens.begin(), tokens.end(), joined);
    const auto id = static_cast<int32_t>(known - tokens.begin());
    if (known == tokens.end()) tokens.push_back(joined);
    for (auto& word : words) {
      std::vector<int32_t> out;
      for (size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second) {
          out.push_back(id);
          ++i;
        } else {
          out.push_back(word[i]);
        }
      }
      word = std::move(out);
    }
  }
  return {tokens.begin() + 256, tokens.end()};
}

TEST(BpeTrainer, LearnsTheMostFrequentPairsFirst) {
  const auto training = train({"low low low low lower lower newest newest newest newest newest newest widest"}, 262);
  ASSERT_TRUE(training.ok());
  const BpeTokenizer& tokenizer = *training->tokenizer;
  // "we" stands 8 times (lower, newest); then "es", "st" and " n" 7, 7 and 6 …, by the documented order.
  EXPECT_EQ(learnt(tokenizer),
            (train_by_definition({"low low low low lower lower newest newest newest newest newest newest widest"}, 5)));
  EXPECT_EQ(tokenizer.vocabulary_size(), 262);
  EXPECT_EQ(tokenizer.end_of_text(), 261);
}

TEST(BpeTrainer, OfEquallyFrequentPairsTheLowerIdsAreMergedFirst) {
  const auto training = train({"cd\n", "ab\n", "cd\n", "ab\n", "ac\n", "ac\n"}, 260);
  ASSERT_TRUE(training.ok());
  EXPECT_EQ(learnt(*training->tokenizer), (std::vector<std::string>{"ab", "ac", "cd"}));
}

TEST(BpeTrainer, EqualsItsDefinitionOnRandomTexts) {
  TextMaker maker(11);
  for (int round = 0; round < 12; ++round) {
    std::vector<std::string> texts;
    for (int i = 0; i < 20; ++i) {
      std::string text;
      const size_t letters = 1 + maker.below(6);
      const size_t length = 50 + maker.below(200);
      while (text.size() < length) {
        text += maker.below(8) == 0 ? ' ' : static_cast<char>('a' + maker.below(letters));
      }
      texts.push_back(round % 3 == 0 ? maker.text(60) : text);
    }
    const auto training = train(texts, 256 + 150 + 1, 2);
    ASSERT_TRUE(training.ok());
    ASSERT_EQ(learnt(*training->tokenizer), train_by_definition(texts, 150));
  }
}

TEST(BpeTrainer, DependsNeitherOnThreadsNorOnTheOrderOfDocuments) {
  TextMaker maker(12);
  std::vector<std::string> texts;
  for (int i = 0; i < 30; ++i) {
    std::string text = maker.bytes(1000);
    while (text.size() < 100000) text += "the order of the words " + maker.text(1) + "does not matter\n";
    texts.push_back(text);
  }
  const auto one = train(texts, 2000, 1);
  ASSERT_TRUE(one.ok());
  for (const int threads : {2, 3, 8}) {
    std::swap(texts[0], texts[static_cast<size_t>(threads)]);
    const auto more = train(texts, 2000, threads);
    ASSERT_TRUE(more.ok());
    EXPECT_EQ(more->tokenizer->fingerprint(), one->tokenizer->fingerprint());
  }
  EXPECT_EQ(one->documents, 30);
}

TEST(BpeTrainer, NoMergeCrossesADocumentsEnd) {
  const auto training = train(std::vector<std::string>(50, "x"), 300);
  ASSERT_TRUE(training.ok());
  EXPECT_TRUE(learnt(*training->tokenizer).empty());
}

TEST(BpeTrainer, APoorTextGivesASmallerVocabulary) {
  const auto training = train({"abab"}, 1000);
  ASSERT_TRUE(training.ok());
  EXPECT_EQ(learnt(*training->tokenizer), (std::vector<std::string>{"ab"}));
  EXPECT_EQ(training->tokenizer->vocabulary_size(), 258);
}

TEST(BpeTrainer, RefusesWhatCannotBeLearnt) {
  EXPECT_THAT(train({}, 1000).error().message(), HasSubstr("empty text"));
  EXPECT_THAT(train({"", ""}, 1000).error().message(), HasSubstr("empty text"));
  EXPECT_THAT(train({"abc"}, 256).error().message(), HasSubstr("256 bytes and 1 special token need 257"));
  EXPECT_EQ(train({"abc"}, 256).error().kind(), ErrorKind::usage);
  ThreadPool pool(1);
  EXPECT_FALSE(train_bpe(documents_of({"abc"}), {.pattern = "("}, pool).ok());
}

TEST(BpeTrainer, ReportsProgressUpToTheLastMerge) {
  TextMaker maker(13);
  int64_t bytes = 0, merges = 0;
  BpeTrainingOptions options;
  options.vocabulary_size = 256 + 512 + 1;
  options.progress = [&](const BpeTrainingProgress& at) {
    EXPECT_GE(at.bytes_read, bytes);
    EXPECT_GE(at.merges, merges);
    EXPECT_EQ(at.merges_wanted, 512);
    bytes = at.bytes_read;
    merges = at.merges;
  };
  ThreadPool pool(1);
  const std::string text = maker.text(20000);
  ASSERT_TRUE(train_bpe(documents_of({text}), options, pool).ok());
  EXPECT_EQ(bytes, static_cast<int64_t>(text.size()));
  EXPECT_EQ(merges, 512);
}

}  // namespace
}  // namespace troupe::data
