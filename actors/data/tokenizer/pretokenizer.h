// Cuts text into the pieces that byte-pair merges must not cross. Every byte lies in exactly one piece,
// in order. The named patterns have scanners by hand; any other pattern is matched by PCRE2 (JIT, UTF,
// Unicode properties), and what it does not match is a piece of its own.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "actors/data/tokenizer/unicode_class.h"
#include "runtime/base/result.h"

namespace troupe::data {

class PreTokenizer {
 public:
  // `pattern`: "gpt2", "cl100k", "llama3" (cl100k's pattern, by the name of its other user), or a
  // regular expression in Perl's syntax. Errors: usage, when the expression does not compile.
  static Result<PreTokenizer> create(std::string_view pattern);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // As given to create().
  const std::string& pattern() const { return pattern_; }

  // The pattern as a regular expression.
  std::string_view expression() const;

  // The first position ≥ `from` (or text.size()) at which the text may be cut in two so that the pieces
  // of both halves are the pieces of the whole. Always text.size() for an own expression.
  size_t safe_cut(std::string_view text, size_t from) const;

 private:
  friend class PieceCursor;
  enum class Kind { gpt2, cl100k, expression };
  struct Expression;  // compiled by PCRE2

  PreTokenizer(Kind kind, std::string_view pattern);

  Kind kind_;
  std::string pattern_;
  std::unique_ptr<UnicodeClasses> classes_;
  std::array<UnicodeClass, 256> byte_class_;  // of ASCII; `other` from 0x80 on
  std::unique_ptr<Expression> compiled_;
};

// Walks the pieces of one text. Several cursors may share a PreTokenizer, which must outlive them.
class PieceCursor {
 public:
  PieceCursor(const PreTokenizer& pretokenizer, std::string_view text);
  ~PieceCursor();
  PieceCursor(const PieceCursor&) = delete;
  PieceCursor& operator=(const PieceCursor&) = delete;

  // The lengths of the next pieces, in bytes; empty at the end of the text. The view is valid until
  // the next call.
  std::span<const size_t> next();

 private:
  struct MatchState;
  using Byte = unsigned char;

  size_t scan_gpt2();
  size_t scan_cl100k();
  size_t match_expression();

  const Byte* contraction(const Byte* p, bool any_case) const;
  UnicodeClass class_at(const Byte* p, int* length) const;
  const Byte* skip(const Byte* p, UnicodeClass wanted) const;
  const Byte* spaces(const Byte* p) const;

  const PreTokenizer& pretokenizer_;
  const Byte* position_;
  const Byte* end_;
  std::unique_ptr<MatchState> match_;  // own expressions only
  std::array<size_t, 256> lengths_;
};

}  // namespace troupe::data
