#include "actors/data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include "actors/data/tokenizer/bpe_trainer.h"
#include "actors/data/tokenizer/character_tokenizer.h"
#include "actors/data/tokenizer/streaming_decoder.h"
#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> characters_of(std::string text) {
  auto result = load_tokenizer("characters", documents_of({std::move(text)}));
  EXPECT_TRUE(result.ok());
  return *std::move(result);
}

TEST(ByteTokenizer, IsTheBytesAndAnEndOfText) {
  const auto tokenizer = load("bytes");
  EXPECT_EQ(tokenizer->encode("a\xFF\0"), (std::vector<int32_t>{'a', 255}));  // the literal ends at its zero
  EXPECT_EQ(tokenizer->encode(std::string_view("\0z", 2)), (std::vector<int32_t>{0, 'z'}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->bytes_of(256), "<|endoftext|>");
  const std::string text = TextMaker(1).bytes(1000);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(CharacterTokenizer, NumbersTheCharactersOfItsTextByCodePoint) {
  const auto tokenizer = characters_of("b\na€\xFF aä");
  EXPECT_EQ(tokenizer->vocabulary_size(), 7);
  EXPECT_EQ(tokenizer->encode("\n abä€\xFF"), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{6, 5, 4}), "\xFF€ä");
  EXPECT_EQ(tokenizer->end_of_text(), std::nullopt);
}

TEST(CharacterTokenizer, LearnsTheSixtyFiveCharactersOfTinyShakespeare) {
  if (!std::filesystem::exists(kSharedFolder + "tinyshakespeare.txt")) GTEST_SKIP() << "no tinyshakespeare.txt";
  const std::string text = read_test_file(kSharedFolder + "tinyshakespeare.txt");
  const auto tokenizer = characters_of(text);
  EXPECT_EQ(tokenizer->vocabulary_size(), 65);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(CharacterTokenizer, NamesACharacterThatItDoesNotKnow) {
  const auto tokenizer = characters_of("abc");
  const auto ids = tokenizer->try_encode("abé");
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().kind(), ErrorKind::usage);
  EXPECT_EQ(ids.error().message(), "character U+00E9 'é' at byte 2 is not in the character vocabulary of 3");
  EXPECT_THAT(tokenizer->can_encode("a\n").error().message(), HasSubstr("U+000A at byte 1"));
  EXPECT_THAT(tokenizer->can_encode("\x80").error().message(), HasSubstr("byte 0x80 at offset 0 (not UTF-8)"));
  EXPECT_THROW(tokenizer->encode("abé"), std::logic_error);
  EXPECT_TRUE(tokenizer->can_encode("cab").ok());
}

TEST(CharacterTokenizer, NeedsATextToLearnFrom) {
  EXPECT_EQ(load_tokenizer("characters").error().kind(), ErrorKind::usage);
  EXPECT_THAT(load_tokenizer("characters", documents_of({""})).error().message(), HasSubstr("empty text"));
}

TEST(SentencePieceTokenizer, KeepsInvalidUtf8AsByteTokens) {
  const auto tokenizer = load(kTestFolder + "small_bpe.model");
  TextMaker maker(2);
  for (int i = 0; i < 500; ++i) {
    const std::string text = maker.bytes(maker.below(60));
    if (text.find("\u2581") != std::string::npos) continue;  // comes back as a space
    ASSERT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(SentencePieceTokenizer, CutsALongTextWithoutChangingItsIds) {
  TextMaker maker(3);
  std::string text, line;
  while (text.size() < 300000) text += "To be, or not to be: " + maker.text(4) + "\n\n  ";
  for (const std::string model : {"small_bpe.model", "small_unigram.model"}) {
    const auto tokenizer = load(kTestFolder + model);
    const auto ids = tokenizer->encode(text);
    ThreadPool pool(3);
    EXPECT_EQ(tokenizer->encode_parallel(text, pool), ids);
    if (model == "small_bpe.model") {
      EXPECT_EQ(tokenizer->decode(ids), text);
    }
  }
}

TEST(SentencePieceTokenizer, OnlyTheFirstTokenOfATextLosesItsSpace) {
  const auto tokenizer = load(kTestFolder + "small_bpe.model");
  const auto ids = tokenizer->encode("the the");
  EXPECT_EQ(tokenizer->decode(ids), "the the");
  EXPECT_EQ(tokenizer->bytes_of(ids[0])[0], ' ');
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("  x")), "  x");
}

TEST(LoadTokenizer, GivesBackWhatWasSaved) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  BpeTrainingOptions options;
  options.vocabulary_size = 300;
  options.pattern = "[a-z]+|\\s+|\"\\\\";  // quotes and backslashes survive the header
  options.special_tokens = {"<|endoftext|>", "<\"odd\\\t=>", "<ünï>"};
  auto trained = train_bpe(documents_of({"to be or not to be, that is the question: to be"}), options, pool);
  ASSERT_TRUE(trained.ok());
  std::vector<std::unique_ptr<Tokenizer>> all;
  all.push_back(std::move(trained->tokenizer));
  all.push_back(load("bytes"));
  all.push_back(characters_of("to be or not\xFF€"));
  all.push_back(load(kTestFolder + "small_bpe.model"));
  for (const auto& tokenizer : all) {
    const std::string path = folder.file(std::string(tokenizer->kind()) + "/deep/er");
    ASSERT_TRUE(tokenizer->save(path).ok());
    for (const std::string& spec : {path, path + "/tokenizer.toml"}) {
      const auto again = load(spec);
      ASSERT_NE(again, nullptr);
      EXPECT_EQ(again->fingerprint(), tokenizer->fingerprint());
      EXPECT_EQ(again->description(), tokenizer->description());
      EXPECT_EQ(again->kind(), tokenizer->kind());
      EXPECT_EQ(again->end_of_text(), tokenizer->end_of_text());
      EXPECT_EQ(again->encode("to be or not"), tokenizer->encode("to be or not"));
    }
  }
  EXPECT_EQ(load(folder.file("bpe/deep/er"))->special_token("<\"odd\\\t=>"), all[0]->vocabulary_size() - 2);
}

TEST(LoadTokenizer, RecognisesFilesByTheirContent) {
  const TemporaryFolder folder;
  const std::string ranks = read_test_file(kTestFolder + "small.tiktoken");
  EXPECT_EQ(load(folder.write("a", ranks))->kind(), "bpe");
  EXPECT_EQ(load(folder.write("b", read_test_file(kTestFolder + "small_bpe.model")))->kind(), "sentencepiece");
  ASSERT_TRUE(characters_of("xyz")->save(folder.file("c")).ok());
  EXPECT_EQ(load(folder.file("c/tokenizer.characters"))->kind(), "characters");
  EXPECT_EQ(load(folder.write("d", ranks))->end_of_text(), 1000);  // no header: <|endoftext|> comes after the ranks
}

TEST(LoadTokenizer, AHeaderBesideARankFileIsHeeded) {
  const TemporaryFolder folder;
  const auto tokenizer =
      BpeTokenizer::from_ranks(read_test_file(kTestFolder + "small.tiktoken"), {{"<end>", 1234}}, "cl100k");
  ASSERT_TRUE(tokenizer.ok());
  ASSERT_TRUE((*tokenizer)->save_ranks(folder.file("mine.tiktoken")).ok());
  const auto again = load(folder.file("mine.tiktoken"));
  EXPECT_EQ(again->fingerprint(), (*tokenizer)->fingerprint());
  EXPECT_EQ(again->special_token("<end>"), 1234);
  EXPECT_EQ(again->vocabulary_size(), 1235);
  EXPECT_EQ(again->bytes_of(1100), "");  // ids that stand for nothing
}

TEST(LoadTokenizer, ErrorsSayWhatIsWrongAndWhere) {
  const TemporaryFolder folder;
  const auto error = [](const std::string& spec, ErrorKind kind) {
    const auto result = load_tokenizer(spec);
    if (result.ok()) return std::string("ok");
    EXPECT_EQ(result.error().kind(), kind) << result.error().message();
    return result.error().message();
  };
  EXPECT_THAT(error(folder.file("none"), ErrorKind::usage), HasSubstr("no such file"));
  EXPECT_THAT(error(folder.file(""), ErrorKind::usage), HasSubstr("no tokenizer.toml"));
  EXPECT_THAT(error(folder.write("text", "Once upon a time\n"), ErrorKind::usage), HasSubstr("not a tokenizer"));
  EXPECT_THAT(error(folder.write("empty", ""), ErrorKind::usage), HasSubstr("not a tokenizer"));
  const std::string model = read_test_file(kTestFolder + "small_bpe.model");
  EXPECT_THAT(error(folder.write("cut.model", model.substr(0, 1000)), ErrorKind::damaged), HasSubstr("cut.model"));
  EXPECT_THAT(error(folder.write("x.characters", "troupe characters 1\nU+0041\nU+0040\n"), ErrorKind::damaged),
              HasSubstr("line 3 is out of order"));
  EXPECT_THAT(error(folder.write("y.characters", "troupe characters 1\nU+D800\n"), ErrorKind::damaged),
              HasSubstr("line 2 is neither"));

  ASSERT_TRUE(load(kTestFolder + "small.tiktoken")->save(folder.file("t")).ok());
  const std::string header = read_test_file(folder.file("t/tokenizer.toml"));
  const std::string ranks = read_test_file(folder.file("t/tokenizer.tiktoken"));
  folder.write("t/tokenizer.tiktoken", ranks.substr(0, ranks.rfind('\n', ranks.size() - 2) + 1));
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("fingerprint"));
  folder.write("t/tokenizer.tiktoken", ranks);
  folder.write("t/tokenizer.toml", header + "\"<x>\" = -1\n");
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("special token \"<x>\" needs an id"));
  folder.write("t/tokenizer.toml", "format = 1\nkind = \"bpe\"\nvocabulary = \"../../etc/passwd\"\n");
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("without a folder"));
  folder.write("t/tokenizer.toml", "format = 2\n");
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("reads format 1"));
  folder.write("t/tokenizer.toml", "format = \n");
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("tokenizer.toml:1: "));
  folder.write("t/tokenizer.toml", "format = 1\nkind = \"bpe\"\nvocabulary = \"gone\"\n");
  EXPECT_THAT(error(folder.file("t"), ErrorKind::damaged), HasSubstr("gone"));
}

TEST(StreamingDecoder, GivesOutWholeCharactersOnly) {
  const auto tokenizer = load("bytes");
  StreamingDecoder decoder(*tokenizer);
  std::vector<std::string> out;
  for (const int32_t id : tokenizer->encode("a€😀")) out.push_back(decoder.push(id));
  EXPECT_EQ(out, (std::vector<std::string>{"a", "", "", "€", "", "", "", "😀"}));
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.finish(), "\xE2");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamingDecoder, LosesNoByteOfAnything) {
  const auto tokenizer = load(kTestFolder + "small.tiktoken");
  TextMaker maker(6);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = maker.bytes(maker.below(60));
    StreamingDecoder decoder(*tokenizer);
    std::string out;
    for (const int32_t id : tokenizer->encode(text)) out += decoder.push(id);
    EXPECT_LE(text.size() - out.size(), 3u);
    ASSERT_EQ(out + decoder.finish(), text);
  }
}

}  // namespace
}  // namespace troupe::data
