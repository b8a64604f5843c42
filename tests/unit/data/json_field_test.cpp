#include "actors/data/json_field.h"

#include <gtest/gtest.h>

namespace troupe::data {
namespace {

std::string extract(std::string_view field, std::string_view line) {
  auto parsed = JsonField::parse(field);
  if (!parsed.ok()) return "parse: " + parsed.error().message();
  std::string text;
  const Status status = parsed->extract(line, text);
  return status.ok() ? text : "error: " + status.error().message();
}

TEST(JsonField, TakesOneFieldByName) {
  EXPECT_EQ(extract("text", R"({"id": 7, "text": "a\nb \"c\" \u00e9"})"), "a\nb \"c\" \xC3\xA9");
  EXPECT_EQ(extract("a.b", R"({"a.b": "dotted"})"), "dotted");
  EXPECT_EQ(extract("text", "{\"text\":\"\"}  \r"), "");
}

TEST(JsonField, FillsATemplateOfSeveralFields) {
  EXPECT_EQ(extract("Q: {question}\nA: {answer}.", R"({"answer": 42, "question": "6*7?"})"), "Q: 6*7?\nA: 42.");
  EXPECT_EQ(extract("{{{text}}}", R"({"text": "x"})"), "{x}");
  EXPECT_EQ(extract("{a}{b}{c}", R"({"a": true, "b": 0.5, "c": -3})"), "true0.5-3");
}

TEST(JsonField, KeepsBytesThatAreNotUtf8) {
  EXPECT_EQ(extract("text", "{\"text\": \"caf\xE9 \xFF\x80\"}"), "caf\xE9 \xFF\x80");
}

TEST(JsonField, SaysWhatIsWrongWithALine) {
  EXPECT_EQ(extract("text", R"({"id": 1, "body": "x"})"), "error: no field \"text\"; the line has: id, body");
  EXPECT_EQ(extract("text", "{}"), "error: no field \"text\"; the line has: nothing");
  EXPECT_EQ(extract("text", R"({"text": null})"), "error: field \"text\" is null, not a string");
  EXPECT_EQ(extract("text", R"({"text": ["x"]})"), "error: field \"text\" is a list, not a string");
  EXPECT_EQ(extract("text", R"({"text": {}})"), "error: field \"text\" is an object, not a string");
  EXPECT_EQ(extract("text", R"(["text"])"), "error: not a JSON object");
  EXPECT_TRUE(extract("text", R"({"text": "x")").starts_with("error: not valid JSON at column"));
  EXPECT_TRUE(extract("text", R"({"text": x})").starts_with("error: not valid JSON at column"));
  EXPECT_TRUE(extract("text", R"({"text": "x"} y)").starts_with("error: not valid JSON at column"));
}

TEST(JsonField, ParsesOnAfterABadLine) {
  JsonField field = JsonField::parse("text").value();
  std::string text;
  const std::string deep(100, '[');
  for (const std::string_view bad : {R"({"text": "a long text, cut)", deep.c_str(), "", R"({"text": 1e})"}) {
    EXPECT_FALSE(field.extract(bad, text).ok()) << bad;
    ASSERT_TRUE(field.extract(R"({"text": "fine"})", text).ok());
    EXPECT_EQ(text, "fine");
  }
}

TEST(JsonField, RefusesATemplateThatIsNone) {
  for (const std::string_view bad : {"", "a {b", "a} b", "{}", "{{text}}"}) {
    const auto field = JsonField::parse(bad);
    ASSERT_FALSE(field.ok()) << bad;
    EXPECT_EQ(field.error().kind(), ErrorKind::usage);
  }
}

}  // namespace
}  // namespace troupe::data
