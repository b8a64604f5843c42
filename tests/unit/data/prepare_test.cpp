#include "actors/data/prepare.h"

#include <filesystem>
#include <set>

#include "actors/data/tokenizer/byte_tokenizer.h"
#include "runtime/base/random.h"
#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

// Pairs of letters become one id, so that text must not be cut between the letters of a word.
class PairTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); ++i) {
      if (i + 1 < text.size() && letter(text[i]) && letter(text[i + 1])) {
        ids.push_back(256 + 26 * (text[i] - 'a') + (text[i + 1] - 'a'));
        ++i;
      } else {
        ids.push_back(static_cast<unsigned char>(text[i]));
      }
    }
    return ids;
  }
  Status can_encode(std::string_view text) const override {
    if (text.find('!') != std::string_view::npos) return usage_error("no id for '!'");
    return {};
  }
  std::string_view bytes_of(int32_t) const override { return "?"; }
  int32_t vocabulary_size() const override { return 256 + 26 * 26; }
  std::optional<int32_t> end_of_text() const override { return 0; }
  std::string_view kind() const override { return "pairs"; }
  std::string description() const override { return "pairs"; }
  std::string fingerprint() const override { return "00000000000000aa"; }
  Status save(const std::filesystem::path&) const override { return {}; }

 private:
  static bool letter(char c) { return c >= 'a' && c <= 'z'; }
};

class PrepareTest : public DataTest {
 protected:
  Result<PreparedTokens> run(const std::vector<std::string>& paths, const Tokenizer& tokenizer, int threads = 2,
                             TextOptions text = {}) {
    ThreadPool pool(threads);
    PrepareOptions options;
    options.text = text;
    options.cache_folder = path("cache/tokens");
    return prepare(files_, paths, options, tokenizer, pool);
  }
  size_t cached() const {
    if (!std::filesystem::exists(path("cache"))) return 0;
    size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path("cache"))) {
      count += entry.is_regular_file();
    }
    return count;
  }
  static std::vector<int32_t> tokens(const PreparedTokens& prepared) {
    std::vector<int32_t> ids(static_cast<size_t>(prepared.file->tokens()));
    prepared.file->copy(0, ids);
    return ids;
  }

  PosixFileSystem files_;
  ByteTokenizer bytes_;
  PairTokenizer pairs_;
};

TEST_F(PrepareTest, EncodesInPiecesWhatTheTokenizerGivesForTheWhole) {
  const std::string text = words(3000000);
  const std::string path = write("a.txt.zst", zstandard(text));
  const std::vector<int32_t> expected = pairs_.encode(text);
  for (const int threads : {1, 2, 5}) {
    std::filesystem::remove_all(this->path("cache"));
    const auto prepared = run({path}, pairs_, threads);
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    EXPECT_EQ(tokens(*prepared), expected);
    EXPECT_EQ(prepared->file->documents(), 1);
    EXPECT_EQ(prepared->file->text_bytes(), 3000000);
  }
}

TEST_F(PrepareTest, TakesFragmentsLongerThanItsJobs) {
  const std::string text = words(20000000);
  TextOptions options;
  options.fragment_bytes = 3000000;
  const auto prepared = run({write("a.txt", text)}, pairs_, 2, options);
  ASSERT_TRUE(prepared.ok()) << prepared.error().message();
  EXPECT_EQ(tokens(*prepared), pairs_.encode(text));
}

// A rank file of all bytes and of every piece of two to four bytes of `text` in some order, so that
// merges reach across blanks, line ends, digits and punctuation wherever the pattern lets them.
std::string rank_file(const std::string& text) {
  const auto base64 = [](const std::string& bytes) {
    static const char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += 3) {
      uint32_t word = 0;
      for (size_t k = 0; k < 3; ++k) word = word << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
      for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kDigits[word >> (18 - 6 * k) & 63] : '=';
    }
    return out;
  };
  std::vector<std::string> pieces;
  for (int c = 0; c < 256; ++c) pieces.emplace_back(1, static_cast<char>(c));
  std::set<std::string> known;
  for (size_t length = 2; length <= 4; ++length) {
    for (size_t i = 0; i + length <= text.size(); ++i) {
      if (known.insert(text.substr(i, length)).second) pieces.push_back(text.substr(i, length));
    }
  }
  std::string file;
  for (size_t rank = 0; rank < pieces.size(); ++rank) file += base64(pieces[rank]) + fmt::format(" {}\n", rank);
  return file;
}

TEST_F(PrepareTest, CutsTextWithoutChangingBytePairIds) {
  const std::string sample = "The 17 cats' tails, don't  curl;\n\n  caf\xC3\xA9 \xE2\x80\x94 3.14!\r\n\tx\nend\n";
  const std::string ranks = rank_file(sample);
  RandomStream random{.key = 11};
  std::string text;
  while (text.size() < 200000) {
    const uint64_t begin = random.below(sample.size());
    text += sample.substr(begin, 1 + random.below(12));
  }
  for (const std::string pattern : {"gpt2", "cl100k"}) {
    const std::string vocabulary = write(pattern + ".tiktoken", ranks);
    write(pattern + ".toml",
          fmt::format("format = 1\nkind = \"bpe\"\nvocabulary = \"{0}.tiktoken\"\npattern = \"{0}\"\n", pattern));
    const auto tokenizer = load_tokenizer(vocabulary);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message();
    const std::vector<int32_t> expected = (*tokenizer)->encode(text);
    ASSERT_LT(expected.size(), text.size() * 3 / 5) << "the merges do not reach far";
    TextOptions options;
    options.fragment_bytes = 200;
    const auto prepared = run({write("a.txt", text)}, **tokenizer, 2, options);
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    EXPECT_EQ(tokens(*prepared), expected) << pattern;
  }
}

TEST_F(PrepareTest, KeepsManyDocumentsInOrder) {
  std::string lines;
  std::vector<int32_t> expected;
  for (int d = 0; d < 20000; ++d) {
    const std::string text = words(1 + static_cast<size_t>(d) % 150, static_cast<uint64_t>(d) + 1);
    for (const char c : text) lines += c == '\n' ? std::string("\n") : std::string(1, c);
    lines += '\x01';
    if (d > 0) expected.push_back(0);
    const std::vector<int32_t> ids = pairs_.encode(text);
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  TextOptions text;
  text.separator = "\x01";
  const auto prepared = run({write("a.txt", lines)}, pairs_, 3, text);
  ASSERT_TRUE(prepared.ok()) << prepared.error().message();
  EXPECT_EQ(tokens(*prepared), expected);
  EXPECT_EQ(prepared->file->documents(), 20000);
  EXPECT_EQ(prepared->file->text_bytes(), static_cast<int64_t>(lines.size()) - 20000);
}

TEST_F(PrepareTest, ReusesWhatItMadeUntilSomethingChanges) {
  const std::string path = write("a.txt", "some text");
  EXPECT_FALSE(run({path}, bytes_)->reused);
  EXPECT_TRUE(run({path}, bytes_)->reused);
  EXPECT_FALSE(run({path}, pairs_)->reused) << "another tokenizer";
  TextOptions separated;
  separated.separator = " ";
  EXPECT_FALSE(run({path}, bytes_, 2, separated)->reused) << "another separator";
  EXPECT_TRUE(run({path}, bytes_)->reused);

  write("a.txt", "more text than that");
  const auto longer = run({path}, bytes_);
  EXPECT_FALSE(longer->reused) << "another size";
  EXPECT_EQ(longer->file->tokens(), 19);
  EXPECT_TRUE(run({path}, bytes_)->reused);

  std::filesystem::last_write_time(path, std::filesystem::last_write_time(path) + std::chrono::nanoseconds(1000));
  EXPECT_FALSE(run({path}, bytes_)->reused) << "another time";
  EXPECT_EQ(cached(), 3u) << "a file replaces the one whose inputs changed";
}

TEST_F(PrepareTest, MakesADamagedFileAgain) {
  const std::string path = write("a.txt", words(1000));
  const std::string cache = run({path}, bytes_)->file->path();
  for (const std::uintmax_t at : {std::uintmax_t{100}, std::filesystem::file_size(cache) - 100}) {
    FILE* file = std::fopen(cache.c_str(), "r+b");
    ASSERT_NE(file, nullptr);
    std::fseek(file, static_cast<long>(at), SEEK_SET);
    std::fputc(0xEE, file);
    std::fclose(file);
    const auto again = run({path}, bytes_);
    EXPECT_FALSE(again->reused);
    EXPECT_TRUE(again->file->verify().ok());
  }
  EXPECT_TRUE(run({path}, bytes_)->reused);
}

TEST_F(PrepareTest, StopsWhileItReadsTheCacheAndLeavesItAsItWas) {
  const std::string path = write("a.txt", words(1000));
  ASSERT_FALSE(run({path}, bytes_)->reused);
  ThreadPool pool(2);
  PrepareOptions options;
  options.cache_folder = this->path("cache");
  const auto stopped = prepare(files_, {path}, options, bytes_, pool, [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().kind(), ErrorKind::interrupted);
  EXPECT_TRUE(run({path}, bytes_)->reused);
}

TEST_F(PrepareTest, ReportsProgressUpToTheTotal) {
  const std::string path = write("a.txt", words(10000000));
  ThreadPool pool(2);
  PrepareOptions options;
  options.cache_folder = this->path("cache");
  int64_t before = 0, last = 0, calls = 0;
  const auto prepared = prepare(files_, {path}, options, bytes_, pool, [&](int64_t done, int64_t total) {
    EXPECT_GE(done, before);
    EXPECT_EQ(total, 10000000);
    before = last = done;
    ++calls;
    return true;
  });
  ASSERT_TRUE(prepared.ok());
  EXPECT_EQ(last, 10000000);
  EXPECT_GE(calls, 3);
}

TEST_F(PrepareTest, StopsWhenAskedAndLeavesNothing) {
  const std::string path = write("a.txt", words(10000000));
  ThreadPool pool(2);
  PrepareOptions options;
  options.cache_folder = this->path("cache");
  const auto prepared = prepare(files_, {path}, options, bytes_, pool, [](int64_t done, int64_t) { return done == 0; });
  ASSERT_FALSE(prepared.ok());
  EXPECT_EQ(prepared.error().kind(), ErrorKind::interrupted);
  EXPECT_EQ(cached(), 0u);
}

TEST_F(PrepareTest, LeavesNothingBehindWhenTheInputIsBad) {
  std::string lines;
  for (int i = 0; i < 100000; ++i) lines += "{\"text\": \"fine\"}\n";
  const auto bad_line = run({write("a.jsonl", lines + "{")}, bytes_);
  ASSERT_FALSE(bad_line.ok());
  EXPECT_TRUE(bad_line.error().message().starts_with(path("a.jsonl") + ":100001: not valid JSON"))
      << bad_line.error().message();
  const auto bad_character = run({write("a.txt", "hello!")}, pairs_);
  ASSERT_FALSE(bad_character.ok());
  EXPECT_EQ(bad_character.error().message(), path("a.txt") + ": no id for '!'");
  const auto nothing = run({write("a.gz", gzip(""))}, bytes_);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().message(), path("a.gz") + ": there is no text in the data");
  EXPECT_EQ(nothing.error().kind(), ErrorKind::usage);
  EXPECT_EQ(cached(), 0u);
}

TEST_F(PrepareTest, SaysThatItCannotWrite) {
  write("cache", "a file where the folder should be");
  const auto prepared = run({write("a.txt", "text")}, bytes_);
  ASSERT_FALSE(prepared.ok());
  EXPECT_NE(prepared.error().message().find(path("cache")), std::string::npos) << prepared.error().message();
}

}  // namespace
}  // namespace troupe::data
