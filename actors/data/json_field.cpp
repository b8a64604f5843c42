#include "actors/data/json_field.h"

#include <fmt/format.h>

#include <array>
#include <boost/json.hpp>
#include <utility>

namespace troupe::data {
namespace {

namespace json = boost::json;

json::parse_options parse_options() {
  json::parse_options options;
  options.allow_invalid_utf8 = true;
  return options;
}

std::string_view view(const json::string& text) { return {text.data(), text.size()}; }

// The fields that the line has, for a message; a few are enough.
std::string names_of(const json::object& object) {
  constexpr size_t kMost = 8;
  std::string names;
  size_t count = 0;
  for (const auto& member : object) {
    if (count++ == kMost) return names + ", …";
    if (count > 1) names += ", ";
    names.append(member.key().data(), member.key().size());
  }
  return names.empty() ? "nothing" : names;
}

}  // namespace

struct JsonField::Parser {
  Parser() : parser(json::storage_ptr(), parse_options()) {}

  json::parser parser;
  std::array<unsigned char, 64 * 1024> memory;
};

JsonField::JsonField() : parser_(std::make_unique<Parser>()) {}
JsonField::JsonField(JsonField&&) noexcept = default;
JsonField& JsonField::operator=(JsonField&&) noexcept = default;
JsonField::~JsonField() = default;

Result<JsonField> JsonField::parse(std::string_view field) {
  JsonField result;
  if (field.find_first_of("{}") == std::string_view::npos) {
    if (field.empty()) return usage_error("the field's name is empty");
    result.parts_.push_back({true, std::string(field)});
    return result;
  }
  std::string text;
  bool any = false;
  for (size_t i = 0; i < field.size(); ++i) {
    const char c = field[i];
    if (c != '{' && c != '}') {
      text += c;
    } else if (i + 1 < field.size() && field[i + 1] == c) {
      text += c;
      ++i;
    } else if (const size_t close = field.find('}', i); c == '{' && close != std::string_view::npos && close > i + 1) {
      if (!text.empty()) result.parts_.push_back({false, std::exchange(text, {})});
      result.parts_.push_back({true, std::string(field.substr(i + 1, close - i - 1))});
      any = true;
      i = close;
    } else {
      return usage_error(
          "template \"{}\": '{}' at position {} has no other half; write {{field}}, or {}{} for the brace "
          "itself",
          field, c, i, c, c);
    }
  }
  if (!text.empty()) result.parts_.push_back({false, std::move(text)});
  if (!any) return usage_error("template \"{}\" has no {{field}}", field);
  return result;
}

Status JsonField::extract(std::string_view line, std::string& text) {
  text.clear();
  json::parser& parser = parser_->parser;
  json::monotonic_resource resource(parser_->memory.data(), parser_->memory.size());
  parser.reset(&resource);
  boost::system::error_code code;
  const size_t parsed = parser.write_some(line.data(), line.size(), code);
  if (!code && line.find_first_not_of(" \t\r\n", parsed) != std::string_view::npos) code = json::error::extra_data;
  if (code) {
    parser.reset();  // what it has built so far lies in `resource`
    return damaged("not valid JSON at column {}: {}", parsed + 1, code.message());
  }
  const json::value value = parser.release();
  const json::object* object = value.if_object();
  if (object == nullptr) return damaged("not a JSON object");
  for (const Part& part : parts_) {
    if (!part.is_field) {
      text += part.text;
      continue;
    }
    const json::value* field = object->if_contains(part.text);
    if (field == nullptr) return damaged("no field \"{}\"; the line has: {}", part.text, names_of(*object));
    if (const json::string* string = field->if_string()) {
      text += view(*string);
    } else if (const double* number = field->if_double()) {
      text += fmt::format("{}", *number);
    } else if (field->is_number() || field->is_bool()) {
      text += json::serialize(*field);
    } else {
      return damaged("field \"{}\" is {}, not a string", part.text,
                     field->is_null() ? "null" : (field->is_array() ? "a list" : "an object"));
    }
  }
  return {};
}

}  // namespace troupe::data
