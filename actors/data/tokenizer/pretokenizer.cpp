#include "actors/data/tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "actors/data/tokenizer/utf8.h"

namespace troupe::data {
namespace {

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_newline(unsigned char byte) { return byte == '\n' || byte == '\r'; }

}  // namespace

struct PreTokenizer::Expression {
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Expression() { pcre2_code_free(code); }
};

PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

PreTokenizer::PreTokenizer(Kind kind, std::string_view pattern)
    : kind_(kind), pattern_(pattern), classes_(std::make_unique<UnicodeClasses>()) {
  byte_class_.fill(UnicodeClass::other);
  for (uint32_t byte = 0; byte < 0x80; ++byte) byte_class_[byte] = classes_->of(byte);
}

Result<PreTokenizer> PreTokenizer::create(std::string_view pattern) {
  if (pattern == "gpt2") return PreTokenizer(Kind::gpt2, pattern);
  if (pattern == "cl100k" || pattern == "llama3") return PreTokenizer(Kind::cl100k, pattern);
  PreTokenizer result(Kind::expression, pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  result.compiled_ = std::make_unique<Expression>();
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                                   &error, &offset, nullptr);
  if (!code) {
    std::array<unsigned char, 256> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    return usage_error(
        "pre-tokenisation pattern \"{}\" is neither gpt2, cl100k or llama3 nor a regular expression: {} at offset {}",
        pattern, reinterpret_cast<const char*>(text.data()), offset);
  }
  result.compiled_->code = code;
  result.compiled_->jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  return result;
}

std::string_view PreTokenizer::expression() const {
  switch (kind_) {
    case Kind::gpt2: return kGpt2;
    case Kind::cl100k: return kCl100k;
    case Kind::expression: break;
  }
  return pattern_;
}

size_t PreTokenizer::safe_cut(std::string_view text, size_t from) const {
  // Between a letter and a space or newline: no piece of a named pattern holds the two in this order,
  // and no piece looks back.
  if (kind_ == Kind::expression) return text.size();
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  for (size_t at = std::max<size_t>(from, 1); at < text.size(); ++at) {
    if (bytes[at] != ' ' && bytes[at] != '\n') continue;
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && (bytes[start] & 0xC0) == 0x80) --start;
    const CodePoint before = decode_utf8(bytes + start, bytes + at);
    if (before.valid && start + static_cast<size_t>(before.length) == at &&
        classes_->of(before.value) == UnicodeClass::letter) {
      return at;
    }
  }
  return text.size();
}

struct PieceCursor::MatchState {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  const Byte* valid_begin = nullptr;  // the run of valid UTF-8 that is being matched
  const Byte* valid_end = nullptr;
  const Byte* match_begin = nullptr;  // found, but what stood before it went out first
  const Byte* match_end = nullptr;

  explicit MatchState(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, 8 << 20, nullptr)) {
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

PieceCursor::PieceCursor(const PreTokenizer& pretokenizer, std::string_view text)
    : pretokenizer_(pretokenizer),
      position_(reinterpret_cast<const Byte*>(text.data())),
      end_(position_ + text.size()) {
  if (pretokenizer.compiled_) match_ = std::make_unique<MatchState>(pretokenizer.compiled_->code);
}

PieceCursor::~PieceCursor() = default;

std::span<const size_t> PieceCursor::next() {
  size_t count = 0;
  switch (pretokenizer_.kind_) {
    case PreTokenizer::Kind::gpt2: count = scan_gpt2(); break;
    case PreTokenizer::Kind::cl100k: count = scan_cl100k(); break;
    case PreTokenizer::Kind::expression: count = match_expression(); break;
  }
  return {lengths_.data(), count};
}

inline UnicodeClass PieceCursor::class_at(const Byte* p, int* length) const {
  if (*p < 0x80) {
    *length = 1;
    return pretokenizer_.byte_class_[*p];
  }
  const CodePoint character = decode_utf8(p, end_);
  *length = character.length;
  return character.valid ? pretokenizer_.classes_->of(character.value) : UnicodeClass::other;
}

// The first position from `p` on whose character is of another class.
inline const PieceCursor::Byte* PieceCursor::skip(const Byte* p, UnicodeClass wanted) const {
  while (p < end_) {
    if (*p < 0x80) {
      if (pretokenizer_.byte_class_[*p] != wanted) break;
      ++p;
    } else {
      int length;
      if (class_at(p, &length) != wanted) break;
      p += length;
    }
  }
  return p;
}

// \s+(?!\S)|\s+ at `p`: the whole run at the end of the text, else all but its last character, which
// begins the next piece; one character if there is but one. REQUIRES: white space at p.
inline const PieceCursor::Byte* PieceCursor::spaces(const Byte* p) const {
  const Byte* begin = p;
  const Byte* last = p;
  while (p < end_) {
    int length;
    if (class_at(p, &length) != UnicodeClass::space) break;
    last = p;
    p += length;
  }
  return p == end_ || last == begin ? p : last;
}

// The end of 's 't 're 've 'm 'll 'd at `p`, or null. Ignoring case, ſ (U+017F) is an s too.
// REQUIRES: *p is an apostrophe.
inline const PieceCursor::Byte* PieceCursor::contraction(const Byte* p, bool any_case) const {
  if (end_ - p < 2) return nullptr;
  const Byte fold = any_case ? 0x20 : 0;
  const Byte first = p[1] | fold;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if (end_ - p < 3) return nullptr;
  const Byte second = p[2] | fold;
  if ((second == 'e' && (first == 'r' || first == 'v')) || (second == 'l' && first == 'l')) return p + 3;
  if (any_case && p[1] == 0xC5 && p[2] == 0xBF) return p + 3;
  return nullptr;
}

size_t PieceCursor::scan_gpt2() {
  const Byte* p = position_;
  size_t count = 0;
  while (p < end_ && count < lengths_.size()) {
    const Byte* begin = p;
    int length;
    UnicodeClass type = class_at(p, &length);
    const Byte* done = nullptr;
    if (*p == '\'') {
      done = contraction(p, false);
    } else if (*p == ' ' && end_ - p > 1) {
      int second_length;
      const UnicodeClass second = class_at(p + 1, &second_length);
      if (second != UnicodeClass::space) {
        type = second;
        length = 1 + second_length;
      }
    }
    if (done) {
      p = done;
    } else if (type == UnicodeClass::space) {
      p = spaces(p);
    } else {
      p = skip(p + length, type);
    }
    lengths_[count++] = static_cast<size_t>(p - begin);
  }
  position_ = p;
  return count;
}

size_t PieceCursor::scan_cl100k() {
  const Byte* p = position_;
  size_t count = 0;
  while (p < end_ && count < lengths_.size()) {
    const Byte* begin = p;
    int length;
    const UnicodeClass type = class_at(p, &length);
    const Byte* done = *p == '\'' ? contraction(p, true) : nullptr;
    const Byte* second = p + length;
    int second_length = 0;
    UnicodeClass second_type = UnicodeClass::space;
    if (second < end_) second_type = class_at(second, &second_length);
    if (done) {
      p = done;
    } else if (type == UnicodeClass::letter) {
      p = skip(second, UnicodeClass::letter);
    } else if (type != UnicodeClass::number && !is_newline(*p) && second < end_ &&
               second_type == UnicodeClass::letter) {
      p = skip(second + second_length, UnicodeClass::letter);
    } else if (type == UnicodeClass::number) {
      p = second;
      for (int digits = 1; digits < 3 && p < end_ && class_at(p, &length) == UnicodeClass::number; ++digits) {
        p += length;
      }
    } else if (type == UnicodeClass::other || (*p == ' ' && second < end_ && second_type == UnicodeClass::other)) {
      p = skip(second, UnicodeClass::other);
      while (p < end_ && is_newline(*p)) ++p;
    } else {
      const Byte* after_newline = nullptr;
      for (const Byte* q = p; q < end_ && class_at(q, &length) == UnicodeClass::space; q += length) {
        if (is_newline(*q)) after_newline = q + 1;
      }
      p = after_newline ? after_newline : spaces(p);
    }
    lengths_[count++] = static_cast<size_t>(p - begin);
  }
  position_ = p;
  return count;
}

size_t PieceCursor::match_expression() {
  MatchState& state = *match_;
  const PreTokenizer::Expression& expression = *pretokenizer_.compiled_;
  size_t count = 0;
  const auto give = [&](const Byte* to) {
    lengths_[count++] = static_cast<size_t>(to - position_);
    position_ = to;
  };
  while (position_ < end_ && count < lengths_.size()) {
    if (position_ < state.match_begin) {
      give(state.match_begin);
      continue;
    }
    if (position_ < state.match_end) {
      give(state.match_end);
      continue;
    }
    if (position_ >= state.valid_end) {
      const Byte* p = position_;
      while (p < end_) {
        const CodePoint character = decode_utf8(p, end_);
        if (!character.valid) break;
        p += character.length;
      }
      state.valid_begin = position_;
      state.valid_end = p;
      if (p == position_) {
        give(p + 1);
        continue;
      }
    }
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(state.valid_begin);
    const auto size = static_cast<size_t>(state.valid_end - state.valid_begin);
    size_t start = static_cast<size_t>(position_ - state.valid_begin);
    state.match_begin = state.match_end = state.valid_end;  // no match: the rest of the run is a piece
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    const int found = expression.jit
                          ? pcre2_jit_match(expression.code, subject, size, start, options, state.data, state.context)
                          : pcre2_match(expression.code, subject, size, start, options, state.data, state.context);
    if (found > 0) {
      const PCRE2_SIZE* at = pcre2_get_ovector_pointer(state.data);
      if (at[0] >= start && at[1] > at[0]) {
        state.match_begin = state.valid_begin + at[0];
        state.match_end = state.valid_begin + at[1];
      }
    }
  }
  return count;
}

}  // namespace troupe::data
