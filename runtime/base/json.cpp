#include "runtime/base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "runtime/base/check.h"

namespace troupe {
namespace {

// Length of the well-formed UTF-8 sequence at the front of `text`, or 0 (Unicode 15, table 3-7).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](size_t i, int low = 0x80, int high = 0xBF) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const int lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    return continues(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    return continues(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

template <class Float>
void append_float(std::string& out, Float number) {
  if (!std::isfinite(number)) {
    out += "null";
    return;
  }
  const size_t start = out.size();
  fmt::format_to(std::back_inserter(out), "{}", number);
  if (out.find_first_of(".e", start) == std::string::npos) out += ".0";
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const char c = text.front();
    size_t taken = 1;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else if (const size_t length = utf8_length(text); length > 0) {
          out.append(text.substr(0, length));
          taken = length;
        } else {
          out += "\xEF\xBF\xBD";
        }
    }
    text.remove_prefix(taken);
  }
  out += '"';
}

void append_json_number(std::string& out, double number) { append_float(out, number); }
void append_json_number(std::string& out, float number) { append_float(out, number); }

void JsonWriter::line_break() {
  if (indent_ == 0) return;
  out_ += '\n';
  out_.append(levels_.size() * static_cast<size_t>(indent_), ' ');
}

void JsonWriter::before_value() {
  if (levels_.empty()) {
    TROUPE_CHECK(out_.empty(), "a second JSON value after {}", out_);
    return;
  }
  Level& level = levels_.back();
  if (level.bracket == '{') {
    TROUPE_CHECK(after_key_, "a member without a key in {}", out_);
  } else {
    if (!level.empty) out_ += ',';
    line_break();
    level.empty = false;
  }
  after_key_ = false;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  TROUPE_CHECK(!levels_.empty() && levels_.back().bracket == '{' && !after_key_, "misplaced key \"{}\"", name);
  if (!levels_.back().empty) out_ += ',';
  levels_.back().empty = false;
  line_break();
  append_json_string(out_, name);
  out_ += indent_ > 0 ? ": " : ":";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin(char bracket) {
  before_value();
  out_ += bracket;
  levels_.push_back({bracket, true});
  return *this;
}

JsonWriter& JsonWriter::end(char open, char close) {
  TROUPE_CHECK(!levels_.empty() && levels_.back().bracket == open && !after_key_, "misplaced {}", close);
  const bool empty = levels_.back().empty;
  levels_.pop_back();
  if (!empty) line_break();
  out_ += close;
  return *this;
}

JsonWriter& JsonWriter::value(bool flag) { return raw(flag ? "true" : "false"); }
JsonWriter& JsonWriter::value(long long number) { return raw(fmt::format_int(number).c_str()); }
JsonWriter& JsonWriter::value(unsigned long long number) { return raw(fmt::format_int(number).c_str()); }
JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::value(float number) {
  before_value();
  append_json_number(out_, number);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  before_value();
  append_json_number(out_, number);
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  before_value();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  out_ += json;
  return *this;
}

const std::string& JsonWriter::text() const {
  TROUPE_CHECK(levels_.empty() && !out_.empty(), "unfinished JSON: {}", out_);
  return out_;
}

}  // namespace troupe
