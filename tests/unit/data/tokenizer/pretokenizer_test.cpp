#include "actors/data/tokenizer/pretokenizer.h"

#include "tests/unit/data/tokenizer/tokenizer_testing.h"

namespace troupe::data {
namespace {

PreTokenizer make(std::string_view pattern) {
  auto result = PreTokenizer::create(pattern);
  EXPECT_TRUE(result.ok()) << pattern;
  return *std::move(result);
}

std::vector<std::string> pieces(const PreTokenizer& pretokenizer, std::string_view text) {
  std::vector<std::string> result;
  size_t at = 0;
  PieceCursor cursor(pretokenizer, text);
  for (auto lengths = cursor.next(); !lengths.empty(); lengths = cursor.next()) {
    for (const size_t length : lengths) {
      EXPECT_GT(length, 0u);
      result.emplace_back(text.substr(at, length));
      at += length;
    }
  }
  EXPECT_EQ(at, text.size());
  return result;
}

using Pieces = std::vector<std::string>;

TEST(PreTokenizer, CutsAsGpt2Does) {
  const PreTokenizer gpt2 = make("gpt2");
  EXPECT_EQ(pieces(gpt2, "Hello, it's 42  tokens\n\n ok"),
            (Pieces{"Hello", ",", " it", "'s", " 42", " ", " tokens", "\n\n", " ok"}));
  EXPECT_EQ(pieces(gpt2, "x'll'S 'tis \t"), (Pieces{"x", "'ll", "'", "S", " '", "tis", " \t"}));
  EXPECT_EQ(pieces(gpt2, ""), Pieces{});
}

TEST(PreTokenizer, CutsAsCl100kDoes) {
  const PreTokenizer cl100k = make("cl100k");
  EXPECT_EQ(pieces(cl100k, "IT'S 12345;\n\n  y(a)\r\n"),
            (Pieces{"IT", "'S", " ", "123", "45", ";\n\n", " ", " y", "(a", ")\r\n"}));
  EXPECT_EQ(pieces(cl100k, "a \n \n b'ſ"), (Pieces{"a", " \n \n", " b", "'ſ"}));
  EXPECT_EQ(make("llama3").expression(), cl100k.expression());
}

// Whether the pattern, of one character, matches at the first of two equal characters.
std::vector<bool> matches(std::string_view pattern) {
  std::string text;
  std::vector<size_t> begins(0x110001);
  for (uint32_t code = 0; code < 0x110000; ++code) {
    begins[code] = text.size();
    if (code >= 0xD800 && code < 0xE000) continue;
    for (int i = 0; i < 2; ++i) append_utf8(text, code);
    text += '+';  // matched by none of the patterns below
  }
  begins[0x110000] = text.size();
  std::vector<size_t> piece_length(text.size());
  const PreTokenizer pretokenizer = make(pattern);
  PieceCursor cursor(pretokenizer, text);
  size_t at = 0;
  for (auto lengths = cursor.next(); !lengths.empty(); lengths = cursor.next()) {
    for (const size_t length : lengths) {
      piece_length[at] = length;
      at += length;
    }
  }
  std::vector<bool> result(0x110000);
  for (uint32_t code = 0; code < 0x110000; ++code) {
    const size_t whole = begins[code + 1] - begins[code];
    result[code] = whole > 0 && code != '+' && piece_length[begins[code]] == (whole - 1) / 2;
  }
  return result;
}

// Code points on which PCRE2 and the reference encoder agree: not those assigned after PCRE2's version of
// Unicode, nor U+180E, which PCRE2 keeps as white space though Unicode 6.3 dropped it, nor the few that
// Unicode has reclassified since.
const std::vector<bool>& agreed_code_points() {
  static const std::vector<bool> agreed = [] {
    const auto unassigned = matches("\\p{Cn}");
    const auto letter = matches("\\p{L}"), number = matches("\\p{N}"), space = matches("\\s");
    const UnicodeClasses classes;
    std::vector<bool> result(0x110000);
    int assigned = 0, differ = 0;
    for (uint32_t code = 0; code < 0x110000; ++code) {
      if ((code >= 0xD800 && code < 0xE000) || unassigned[code]) continue;
      const UnicodeClass expected = letter[code]   ? UnicodeClass::letter
                                    : number[code] ? UnicodeClass::number
                                    : space[code]  ? UnicodeClass::space
                                                   : UnicodeClass::other;
      ++assigned;
      result[code] = classes.of(code) == expected;
      differ += !result[code];
    }
    EXPECT_GT(assigned, 140000);
    EXPECT_FALSE(result[0x180E]);
    EXPECT_LE(differ, 8);  // U+180E and at most a handful of reclassified characters
    return result;
  }();
  return agreed;
}

TEST(PreTokenizer, ClassesOfCharactersEqualThoseOfTheRegexLibrary) { agreed_code_points(); }

std::string agreed_text(TextMaker& maker, size_t code_points) {
  const std::string text = maker.text(code_points);
  std::string result;
  const auto* end = reinterpret_cast<const unsigned char*>(text.data() + text.size());
  for (const auto* p = reinterpret_cast<const unsigned char*>(text.data()); p < end;) {
    const CodePoint character = decode_utf8(p, end);
    if (agreed_code_points()[character.value]) append_utf8(result, character.value);
    p += character.length;
  }
  return result;
}

TEST(PreTokenizer, ScannersEqualTheirRegularExpressions) {
  TextMaker maker(7);
  for (const std::string_view name : {"gpt2", "cl100k"}) {
    const PreTokenizer scanner = make(name);
    const PreTokenizer expression = make(scanner.expression());
    for (int i = 0; i < 4000; ++i) {
      const std::string text = agreed_text(maker, 1 + maker.below(60));
      ASSERT_EQ(pieces(scanner, text), pieces(expression, text)) << name << ": " << text;
    }
    const std::string text = agreed_text(maker, 50000);
    ASSERT_EQ(pieces(scanner, text), pieces(expression, text)) << name;
  }
}

TEST(PreTokenizer, SafeCutsDoNotChangeThePieces) {
  TextMaker maker(8);
  for (const std::string_view name : {"gpt2", "cl100k"}) {
    const PreTokenizer pretokenizer = make(name);
    int cuts = 0;
    for (int i = 0; i < 3000; ++i) {
      const std::string text = i % 2 ? maker.text(40) : maker.bytes(40);
      const size_t cut = pretokenizer.safe_cut(text, maker.below(text.size()));
      auto both = pieces(pretokenizer, std::string_view(text).substr(0, cut));
      for (auto& piece : pieces(pretokenizer, std::string_view(text).substr(cut))) both.push_back(std::move(piece));
      ASSERT_EQ(both, pieces(pretokenizer, text));
      cuts += cut > 0 && cut < text.size();
    }
    EXPECT_GT(cuts, 500);
  }
}

TEST(PreTokenizer, InvalidUtf8IsCutLikeSignsAndNeverLost) {
  EXPECT_EQ(pieces(make("gpt2"), "ab\xFF\xC3 \xE2\x82z"), (Pieces{"ab", "\xFF\xC3", " \xE2\x82", "z"}));
  TextMaker maker(9);
  for (const std::string_view name : {"gpt2", "cl100k", "\\p{L}+|\\s"}) {
    const PreTokenizer pretokenizer = make(name);
    for (int i = 0; i < 500; ++i) pieces(pretokenizer, maker.bytes(50));  // checks that the lengths add up
  }
}

TEST(PreTokenizer, AnOwnExpressionKeepsWhatItDoesNotMatch) {
  EXPECT_EQ(pieces(make("[a-c]+"), "xxabcyyc"), (Pieces{"xx", "abc", "yy", "c"}));
  EXPECT_EQ(pieces(make("x*"), "abxxc"), (Pieces{"ab", "xx", "c"}));
  EXPECT_EQ(make("[a-c]+").safe_cut("abc abc abc", 1), 11u);
}

TEST(PreTokenizer, ABadExpressionIsAUsageErrorThatSaysWhere) {
  const auto result = PreTokenizer::create("(a|b");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::usage);
  EXPECT_NE(result.error().message().find("offset 4"), std::string::npos) << result.error().message();
}

}  // namespace
}  // namespace troupe::data
