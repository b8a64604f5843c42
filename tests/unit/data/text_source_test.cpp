#include "actors/data/text_source.h"

#include <filesystem>

#include "runtime/base/random.h"
#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

class TextSourceTest : public DataTest {
 protected:
  // The documents, their fragments joined; an error ends the list as "error: …".
  std::vector<std::string> read(const std::vector<std::string>& paths, TextOptions options = {}) {
    auto files = list_inputs(paths);
    if (!files.ok()) return {"error: " + files.error().message()};
    auto source = TextSource::create(*files, options);
    if (!source.ok()) return {"error: " + source.error().message()};
    std::vector<std::string> documents;
    bool within = false;
    fragments_ = 0;
    while (true) {
      auto fragment = source->next();
      if (!fragment.ok()) {
        kind_ = fragment.error().kind();
        documents.push_back("error: " + fragment.error().message());
        return documents;
      }
      if (!*fragment) break;
      ++fragments_;
      EXPECT_FALSE((*fragment)->text.empty());
      if (!within) documents.emplace_back();
      documents.back() += (*fragment)->text;
      within = !(*fragment)->ends_document;
    }
    EXPECT_FALSE(within) << "the last document did not end";
    EXPECT_EQ(source->bytes_done(), source->bytes_total());
    return documents;
  }

  int64_t fragments_ = 0;
  ErrorKind kind_ = ErrorKind::failed;
};

using Documents = std::vector<std::string>;

TextOptions separated(std::string separator, int64_t fragment_bytes = 256 * 1024) {
  TextOptions options;
  options.separator = std::move(separator);
  options.fragment_bytes = fragment_bytes;
  return options;
}

TEST_F(TextSourceTest, TakesATextFileAsOneDocument) {
  EXPECT_EQ(read({write("a.txt", "one\n\ntwo\n")}), Documents{"one\n\ntwo\n"});
}

TEST_F(TextSourceTest, KeepsBytesThatAreNotUtf8) {
  std::string all;
  for (int round = 0; round < 3; ++round) {
    for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  }
  for (int64_t fragment_bytes : {2, 3, 100, 1000}) {
    EXPECT_EQ(read({write("a.txt", all)}, separated("", fragment_bytes)), Documents{all});
  }
}

TEST_F(TextSourceTest, CutsTextAtSeparatorsAndLeavesThemOut) {
  const std::string path = write("a.txt", "\n\none\n\n\n\ntwo\nlines\n\nthree\n\n");
  EXPECT_EQ(read({path}, separated("\n\n")), (Documents{"one", "two\nlines", "three"}));
  EXPECT_EQ(read({write("b.txt", "one<|end|>two<|end|")}, separated("<|end|>")), (Documents{"one", "two<|end|"}));
  EXPECT_EQ(read({write("c.txt", "<|end|><|end|>")}, separated("<|end|>")), Documents{});
}

TEST_F(TextSourceTest, FindsTheSameDocumentsWhateverTheFragmentsLength) {
  RandomStream random{.key = 3};
  for (int round = 0; round < 50; ++round) {
    std::string text;
    for (uint64_t n = random.below(300); n > 0; --n) text += "ab \n;"[random.below(5)];
    if (text.empty()) continue;
    const std::string path = write("a.txt", text);
    for (const std::string separator : {"", ";", "\n\n", "a;b"}) {
      const Documents whole = read({path}, separated(separator, 100000));
      for (int64_t fragment_bytes : {2, 3, 7, 64}) EXPECT_EQ(read({path}, separated(separator, fragment_bytes)), whole);
    }
  }
}

TEST_F(TextSourceTest, CutsLongDocumentsWhereATokenCannotCross) {
  const std::string text = words(3000000);
  const std::string path = write("a.txt", text);
  EXPECT_EQ(read({path}), Documents{text});
  EXPECT_GE(fragments_, 11);
  EXPECT_EQ(fragment_cut("one two\nthree four", 15), 7u);      // the line end comes first
  EXPECT_EQ(fragment_cut("one two three", 12), 7u);            // else the last blank after a letter
  EXPECT_EQ(fragment_cut("1 2\n3 4\n5 6", 8), 8u);             // else where it must
  EXPECT_EQ(fragment_cut("\xC3\xA9\xC3\xA9\xC3\xA9", 3), 2u);  // but not within a character
  EXPECT_EQ(fragment_cut("\xA9\xA9\xA9\xA9\xA9\xA9", 5), 5u);  // which these bytes are not
}

TEST_F(TextSourceTest, ReadsCompressedFiles) {
  const std::string text = words(1000000);
  const Documents expected{text};
  EXPECT_EQ(read({write("a.txt.gz", gzip(text))}), expected);
  EXPECT_EQ(read({write("a.dict.dz", gzip(text))}), expected);
  EXPECT_EQ(read({write("a.txt.zst", zstandard(text))}), expected);
  EXPECT_EQ(read({write("two.gz", gzip(text.substr(0, 700)) + gzip("") + gzip(text.substr(700)))}), expected);
  EXPECT_EQ(read({write("two.zst", zstandard(text.substr(0, 700)) + zstandard("") + zstandard(text.substr(700)))}),
            expected);
  EXPECT_EQ(read({write("padded.gz", gzip(text) + std::string(512, '\0'))}), expected);
}

TEST_F(TextSourceTest, ReadsFoldersInTheOrderOfTheirPaths) {
  write("data/b/2.txt", "b2");
  write("data/b/1.jsonl", "{\"text\": \"b1\"}\n{\"text\": \"b1 again\"}\n");
  write("data/a.txt.gz", gzip("a"));
  write("data/c.txt", "c");
  write("data/empty.txt", "");
  write("data/.hidden", "no");
  write("data/.git/config", "no");
  EXPECT_EQ(read({path("data")}), (Documents{"a", "b1", "b1 again", "b2", "c"}));
  EXPECT_EQ(read({path("data/c.txt"), path("data/b")}), (Documents{"c", "b1", "b1 again", "b2"}));
}

TEST_F(TextSourceTest, ReadsJsonLines) {
  const std::string lines = "\xEF\xBB\xBF{\"text\": \"one\"}\n\n{\"text\": \"\"}\r\n  \n{\"text\": \"two\\n\"}";
  const Documents expected{"one", "two\n"};
  EXPECT_EQ(read({write("a.jsonl", lines)}), expected);
  EXPECT_EQ(read({write("a.jsonl.gz", gzip(lines))}), expected);
  EXPECT_EQ(read({write("a.jsonl.zst", zstandard(lines))}), expected);
  EXPECT_EQ(read({write("a.ndjson", lines)}), expected);
  TextOptions options;
  options.field = "<{text}>";
  EXPECT_EQ(read({path("a.jsonl")}, options), (Documents{"<one>", "<>", "<two\n>"}));
}

TEST_F(TextSourceTest, ReadsJsonLinesLongerThanItsBuffer) {
  const std::string text = words(2000000);
  std::string quoted = text;
  for (char& c : quoted) c = c == '\n' ? '.' : c;
  const std::string path = write("a.jsonl", "{\"text\": \"" + quoted + "\"}\n{\"text\": \"short\"}\n");
  EXPECT_EQ(read({path}), (Documents{quoted, "short"}));
  EXPECT_GE(fragments_, 8);
}

TEST_F(TextSourceTest, SaysWhichFileIsMissingOrEmpty) {
  EXPECT_EQ(read({}), Documents{"error: no path to read data from"});
  EXPECT_EQ(read({path("none.txt")}), Documents{"error: " + path("none.txt") + ": no such file or folder"});
  const std::string empty = write("empty.txt", "");
  EXPECT_EQ(read({empty}), Documents{"error: " + empty + ": the file is empty"});
  write("folder/.hidden", "x");
  EXPECT_EQ(read({path("folder")}), Documents{"error: " + path("folder") + ": no file with data in this folder"});
  EXPECT_EQ(read({"/dev/null"}), Documents{"error: /dev/null: is neither a file nor a folder"});
}

TEST_F(TextSourceTest, FindsDamagedCompressedFiles) {
  const std::string text = words(100000);
  for (const std::string name : {"a.gz", "a.zst"}) {
    const std::string whole = name == "a.gz" ? gzip(text) : zstandard(text);
    const std::string path = write(name, whole);
    for (const size_t length : {size_t{1}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
      write(name, whole.substr(0, length));
      const Documents documents = read({path});
      EXPECT_TRUE(documents.back().starts_with("error: " + path + ": ")) << name << " cut to " << length;
      EXPECT_NE(documents.back().find("cut short"), std::string::npos) << documents.back();
      EXPECT_EQ(kind_, ErrorKind::damaged);
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
    write(name, flipped);
    if (name == "a.gz") {  // a Zstandard frame carries a checksum only if its writer asked for one
      const Documents documents = read({path});
      EXPECT_TRUE(documents.back().starts_with("error: " + path + ": corrupt gzip data near byte "))
          << documents.back();
      EXPECT_EQ(kind_, ErrorKind::damaged);
    }
    write(name, "this is no compressed file, whatever its name says");
    EXPECT_TRUE(read({path}).back().starts_with("error: " + path + ": corrupt "));
  }
}

TEST_F(TextSourceTest, NamesTheLineOfBadJson) {
  const std::string path = write("a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"two\"\n{\"text\": \"three\"}\n");
  const Documents documents = read({path});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_TRUE(documents[1].starts_with("error: " + path + ":3: not valid JSON at column ")) << documents[1];
  EXPECT_EQ(kind_, ErrorKind::damaged);
  write("a.jsonl", "{\"body\": \"one\"}\n");
  EXPECT_EQ(read({path}), Documents{"error: " + path + ":1: no field \"text\"; the line has: body"});
}

TEST_F(TextSourceTest, SaysThatATemplateIsWrong) {
  TextOptions options;
  options.field = "{a";
  EXPECT_TRUE(read({write("a.txt", "x")}, options).front().starts_with("error: template \"{a\""));
}

}  // namespace
}  // namespace troupe::data
