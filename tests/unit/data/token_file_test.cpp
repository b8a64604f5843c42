#include "actors/data/token_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "actors/data/tokenizer/byte_tokenizer.h"
#include "runtime/base/check.h"
#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

using TokenFileTest = DataTest;

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<int32_t> all_tokens(const TokenFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.copy(0, ids);
  return ids;
}

TokenFileInfo info(std::optional<int32_t> separator, int32_t vocabulary_size) {
  return {.tokenizer_fingerprint = "fedcba9876543210",
          .input_fingerprint = 0x1122334455667788,
          .separator = separator,
          .vocabulary_size = vocabulary_size};
}

TEST_F(TokenFileTest, GivesBackDocumentsWithSeparatorsBetween) {
  for (const int32_t vocabulary_size : {100, 65536, 65537, 1 << 30}) {
    const int32_t high = vocabulary_size - 1;
    const TokenStream stream = stream_of({{1, 2, 3}, {}, {high}, {5, 6}}, 9, vocabulary_size);
    const TokenFile& file = stream.file();
    EXPECT_EQ(all_tokens(file), (std::vector<int32_t>{1, 2, 3, 9, high, 9, 5, 6}));
    ASSERT_EQ(file.documents(), 3);
    EXPECT_EQ(file.document_begin(0), 0);
    EXPECT_EQ(file.document_begin(1), 3);
    EXPECT_EQ(file.document_begin(2), 5);
    EXPECT_EQ(file.document_begin(3), 8);
    EXPECT_EQ(file.document_of(2), 0);
    EXPECT_EQ(file.document_of(3), 1);
    EXPECT_EQ(file.document_of(7), 2);
    EXPECT_EQ(file.token(4), high);
    EXPECT_EQ(file.text_bytes(), 6);
    EXPECT_EQ(file.text_bytes_before(2), 4);
    EXPECT_TRUE(file.verify().ok());
  }
}

TEST_F(TokenFileTest, StopsVerifyingWhenNobodyWantsItAnyMore) {
  PosixFileSystem files;
  auto writer = TokenFileWriter::create(files, path("a.tokens"), info(7, 300)).value();
  ASSERT_TRUE(writer.append(std::vector<int32_t>{1, 258}, 5, true).ok());
  ASSERT_TRUE(writer.finish().ok());
  const auto file = TokenFile::open(path("a.tokens")).value();
  EXPECT_EQ(file->verify([] { return true; }).error().kind(), ErrorKind::interrupted);
  EXPECT_TRUE(file->verify([] { return false; }).ok());
}

TEST_F(TokenFileTest, HasTheDocumentedLayout) {
  PosixFileSystem files;
  auto writer = TokenFileWriter::create(files, path("a.tokens"), info(7, 300)).value();
  ASSERT_TRUE(writer.append(std::vector<int32_t>{1, 258}, 5, false).ok());
  ASSERT_TRUE(writer.append(std::vector<int32_t>{3}, 1, true).ok());
  ASSERT_TRUE(writer.append(std::vector<int32_t>{4}, 2, true).ok());
  EXPECT_FALSE(std::filesystem::exists(path("a.tokens"))) << "there before it is whole";
  ASSERT_TRUE(writer.finish().ok());

  const std::string bytes = contents(path("a.tokens"));
  ASSERT_EQ(bytes.size(), 64u + 16 + 2 * 24 + 48);
  const auto text = [](std::initializer_list<int> values) { return std::string(values.begin(), values.end()); };
  EXPECT_EQ(bytes.substr(0, 8), "TRPTOKEN");
  EXPECT_EQ(bytes.substr(8, 8), text({1, 0, 0, 0, 2, 0, 0, 0}));
  EXPECT_EQ(bytes.substr(16, 16), "fedcba9876543210");
  EXPECT_EQ(bytes.substr(32, 8), text({0x88 - 256, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}));
  EXPECT_EQ(bytes.substr(40, 24), text({7, 0, 0, 0, 0, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(bytes.substr(64, 16), text({1, 0, 2, 1, 3, 0, 7, 0, 4, 0, 0, 0, 0, 0, 0, 0}));
  const auto number = [&](size_t offset) {
    uint64_t value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  EXPECT_EQ((std::vector{number(80), number(88), number(96)}), (std::vector<uint64_t>{0, 3, 5}));
  EXPECT_EQ((std::vector{number(104), number(112), number(120)}), (std::vector<uint64_t>{0, 6, 8}));
  EXPECT_EQ(number(128), 5u);
  EXPECT_EQ(number(136), 2u);
  EXPECT_EQ(bytes.substr(168), "TRPTKEND");

  const auto file = TokenFile::open(path("a.tokens")).value();
  EXPECT_EQ(file->info().tokenizer_fingerprint, "fedcba9876543210");
  EXPECT_EQ(file->info().input_fingerprint, 0x1122334455667788u);
  EXPECT_EQ(file->info().separator, 7);
  EXPECT_EQ(file->info().vocabulary_size, 300);
}

TEST_F(TokenFileTest, FindsEveryFlippedByte) {
  const TokenStream stream = stream_of({{1, 2, 3}, {4, 5}}, 9, 100);
  const std::string good = contents(stream.file().path());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    const auto file = TokenFile::open(write("bad.tokens", bad));
    const bool index_found = !file.ok();
    const bool zeros_before_end = i >= good.size() - 16 && i < good.size() - 8;  // nobody reads them
    EXPECT_TRUE(index_found || zeros_before_end || !(*file)->verify().ok()) << "byte " << i;
    if (index_found) EXPECT_EQ(file.error().kind(), ErrorKind::damaged);
  }
}

TEST_F(TokenFileTest, FindsEveryTruncation) {
  const TokenStream stream = stream_of({{1, 2, 3}, {4, 5}}, 9, 100);
  const std::string good = contents(stream.file().path());
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(TokenFile::open(write("bad.tokens", good.substr(0, length))).ok()) << length << " bytes";
  }
  EXPECT_FALSE(TokenFile::open(path("none.tokens")).ok());
}

TEST_F(TokenFileTest, LeavesNothingBehindWithoutFinish) {
  PosixFileSystem files;
  {
    auto writer = TokenFileWriter::create(files, path("a.tokens"), info(std::nullopt, 10)).value();
    ASSERT_TRUE(writer.append(std::vector<int32_t>{1, 2}, 2, true).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder()));
}

TEST_F(TokenFileTest, RefusesIdsOutsideTheVocabulary) {
  PosixFileSystem files;
  auto writer = TokenFileWriter::create(files, path("a.tokens"), info(std::nullopt, 10)).value();
  EXPECT_THROW((void)writer.append(std::vector<int32_t>{10}, 1, true), CheckFailure);
  EXPECT_THROW((void)writer.append(std::vector<int32_t>{-1}, 1, true), CheckFailure);
}

TEST_F(TokenFileTest, CountsTheTextOfAnyRange) {
  const ByteTokenizer bytes;
  const TokenStream stream = stream_of({{65, 66, 67}, {68, 69}, {70}}, ByteTokenizer::kEndOfText, 257);
  ASSERT_EQ(stream.size(), 8);
  for (int64_t begin = 0; begin <= 8; ++begin) {
    for (int64_t end = begin; end <= 8; ++end) {
      int64_t expected = 0;
      for (int64_t i = begin; i < end; ++i) expected += stream.file().token(i) != ByteTokenizer::kEndOfText;
      EXPECT_EQ(stream.text_bytes(begin, end, bytes), expected) << begin << "-" << end;
    }
  }
}

TEST_F(TokenFileTest, SplitsTheTailAsNanoGptDoes) {
  const auto [train, validation] = counting_stream(1115394).split_tail(0.1);
  EXPECT_EQ(train.size(), 1003854);  // int(n * 0.9)
  EXPECT_EQ(validation.size(), 111540);
  int32_t first;
  validation.copy(0, {&first, 1});
  EXPECT_EQ(first, 1003854);
}

}  // namespace
}  // namespace troupe::data
