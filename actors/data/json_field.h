// The text of one JSON line: a field, or a template of several.
//   text                                      the field "text"
//   {question}\n{answer}                      fields between braces, everything else as it stands;
//                                             {{ and }} stand for the braces themselves
// A string's bytes come through as they are, invalid UTF-8 included; numbers and booleans as JSON writes
// them.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace troupe::data {

class JsonField {
 public:
  // Errors: usage (a brace without its other half, no field at all).
  static Result<JsonField> parse(std::string_view field);

  // Replaces `text` by the text of `line`, one JSON object. Not thread-safe: the parser keeps memory.
  // Errors: damaged (not JSON, not an object, no such field, an object or a list there); the message
  // says what and where in the line, the caller adds file and line.
  Status extract(std::string_view line, std::string& text);

  JsonField(JsonField&&) noexcept;
  JsonField& operator=(JsonField&&) noexcept;
  ~JsonField();

 private:
  struct Part {
    bool is_field;
    std::string text;  // the field's name, or what stands between fields
  };
  struct Parser;

  JsonField();

  std::vector<Part> parts_;
  std::unique_ptr<Parser> parser_;
};

}  // namespace troupe::data
