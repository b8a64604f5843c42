// JSON text, written left to right: the lines of metrics.jsonl, run.json, manifests. Floats are the
// shortest text that reads back to the same bits; NaN and infinities, which JSON lacks, become null;
// bytes that are not UTF-8 become U+FFFD. To parse, include <boost/json.hpp>: boost_json.cpp compiles it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

// Appends the quoted, escaped string. The result is a TOML basic string, too.
void append_json_string(std::string& out, std::string_view text);

// Appends the shortest decimal that reads back as the same float, always with a point or an exponent.
void append_json_number(std::string& out, double number);
void append_json_number(std::string& out, float number);

// Builds one JSON text. REQUIRES: calls that make a well-formed text (a key before each value of an
// object); a breach throws CheckFailure at the latest in text().
//   JsonWriter line;
//   line.begin_object().field("step", 3).field("loss", 2.5f).end_object();
class JsonWriter {
 public:
  // `indent` > 0 writes one member a line, indented by that many spaces; 0 writes one line.
  explicit JsonWriter(int indent = 0) : indent_(indent) {}

  JsonWriter& begin_object() { return begin('{'); }
  JsonWriter& end_object() { return end('{', '}'); }
  JsonWriter& begin_array() { return begin('['); }
  JsonWriter& end_array() { return end('[', ']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(bool flag);
  JsonWriter& value(int number) { return value(static_cast<long long>(number)); }
  JsonWriter& value(long number) { return value(static_cast<long long>(number)); }
  JsonWriter& value(long long number);
  JsonWriter& value(unsigned number) { return value(static_cast<unsigned long long>(number)); }
  JsonWriter& value(unsigned long number) { return value(static_cast<unsigned long long>(number)); }
  JsonWriter& value(unsigned long long number);
  JsonWriter& value(float number);
  JsonWriter& value(double number);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& null();
  // A whole JSON text made elsewhere, taken as it is.
  JsonWriter& raw(std::string_view json);

  template <class T>
  JsonWriter& field(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }

  // The finished text, without a line end. REQUIRES: everything begun has ended.
  const std::string& text() const;

 private:
  struct Level {
    char bracket;
    bool empty;
  };
  JsonWriter& begin(char bracket);
  JsonWriter& end(char open, char close);
  void before_value();
  void line_break();

  int indent_;
  std::string out_;
  std::vector<Level> levels_;
  bool after_key_ = false;
};

}  // namespace troupe
