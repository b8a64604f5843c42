// What the tests of the tokenizers share: texts of every kind, files, and loading that must succeed.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "actors/data/tokenizer/tokenizer.h"
#include "actors/data/tokenizer/utf8.h"

namespace troupe::data {

extern const std::string kTestFolder;    // where the tests lie, with a / at the end
extern const std::string kSharedFolder;  // vocabularies and texts that may be missing

inline std::string read_test_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::unique_ptr<Tokenizer> load(const std::string& spec) {
  auto result = load_tokenizer(spec);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message());
  return result.ok() ? *std::move(result) : nullptr;
}

// Yields the texts one by one.
inline DocumentSource documents_of(std::vector<std::string> texts) {
  return [texts = std::move(texts), next = size_t{0}]() mutable -> std::optional<std::string_view> {
    if (next == texts.size()) return std::nullopt;
    return texts[next++];
  };
}

// Random texts that mix scripts, white space, digits and apostrophes, so that every branch of a pattern
// meets every other.
class TextMaker {
 public:
  explicit TextMaker(uint32_t seed) : random_(seed) {}

  size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }

  uint32_t code_point() {
    static constexpr uint32_t kSpans[][2] = {{0x20, 0x7E},     {0x9, 0xD},         {0xA0, 0x590},    {0x590, 0x2000},
                                             {0x2000, 0x3001}, {0xAC00, 0xD7A3},   {0x4E00, 0x9FFF}, {0x1F300, 0x1FA00},
                                             {0x1, 0xD7FF},    {0xE000, 0x10FFFF}, {'0', '9'},       {'a', 'z'}};
    static constexpr std::u32string_view kTricky = U"  \n\r''sStTdDmMlLrRvVeE\u017F\u0085\u00A0\u3000\u00BD";
    const size_t kind = below(std::size(kSpans) + 4);
    if (kind >= std::size(kSpans)) return kTricky[below(kTricky.size())];
    return kSpans[kind][0] + static_cast<uint32_t>(below(kSpans[kind][1] - kSpans[kind][0] + 1));
  }

  std::string text(size_t code_points) {
    std::string result;
    for (size_t i = 0; i < code_points; ++i) {
      const uint32_t value = code_point();
      for (size_t times = below(5) == 0 ? 1 + below(4) : 1; times > 0; --times) append_utf8(result, value);
    }
    return result;
  }

  std::string bytes(size_t count) {
    std::string result;
    while (result.size() < count) result += below(3) == 0 ? text(3) : std::string(1, static_cast<char>(below(256)));
    return result;
  }

 private:
  std::mt19937 random_;
};

// A folder that goes away with its test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-test-XXXXXX").string();
    if (::mkdtemp(name.data())) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(file(name), std::ios::binary) << content;
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace troupe::data
