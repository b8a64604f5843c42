#include "runtime/base/json.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cfloat>
#include <cmath>
#include <limits>

#include "runtime/base/check.h"

namespace troupe {
namespace {

TEST(Json, WritesOneLinePerObject) {
  JsonWriter line;
  line.begin_object().field("step", 3).field("loss", 2.5f).field("name", "a\"b").field("done", false);
  line.key("none").null().key("list").begin_array().value(1).value(2.0).end_array().key("empty").begin_object();
  line.end_object().end_object();
  EXPECT_EQ(line.text(), R"({"step":3,"loss":2.5,"name":"a\"b","done":false,"none":null,"list":[1,2.0],"empty":{}})");
}

TEST(Json, IndentsWhenAsked) {
  JsonWriter out(2);
  out.begin_object().field("a", 1).key("b").begin_array().value("x").end_array().end_object();
  EXPECT_EQ(out.text(), "{\n  \"a\": 1,\n  \"b\": [\n    \"x\"\n  ]\n}");
}

TEST(Json, FloatsReadBackToTheSameBits) {
  for (const double number : {0.0, -0.0, 0.1, 1.0 / 3, 1e300, DBL_MIN, DBL_TRUE_MIN, DBL_MAX, 123456789.0, 1e21}) {
    std::string text;
    append_json_number(text, number);
    EXPECT_EQ(std::bit_cast<uint64_t>(std::strtod(text.c_str(), nullptr)), std::bit_cast<uint64_t>(number)) << text;
    EXPECT_TRUE(boost::json::parse(text).is_double()) << text;
  }
  std::string text;
  append_json_number(text, 3e-4f);
  EXPECT_EQ(text, "0.0003");
}

TEST(Json, NotANumberAndInfinityBecomeNull) {
  JsonWriter out;
  out.begin_array().value(std::nan("")).value(std::numeric_limits<float>::infinity()).value(-INFINITY).end_array();
  EXPECT_EQ(out.text(), "[null,null,null]");
}

TEST(Json, IntegersKeepTheirFullRange) {
  JsonWriter out;
  out.begin_array().value(std::numeric_limits<int64_t>::min()).value(std::numeric_limits<uint64_t>::max()).end_array();
  EXPECT_EQ(out.text(), "[-9223372036854775808,18446744073709551615]");
}

TEST(Json, EveryByteStringBecomesValidUtf8) {
  for (const std::string& text :
       {std::string("plain"), std::string("\0\x01\x1F\x7F", 4), std::string("é한😀"), std::string("\xFF\x80"),
        std::string("\xC0\x80"), std::string("\xED\xA0\x80"), std::string("\xF4\x90\x80\x80"), std::string("\xE2\x82"),
        std::string("\xF0\x9F\x98"), std::string("ok\xE2"), std::string("\xF5")}) {
    std::string json;
    append_json_string(json, text);
    boost::system::error_code error;
    boost::json::parse(json, error);
    EXPECT_FALSE(error) << json;
  }
  std::string kept, replaced;
  append_json_string(kept, "é한😀");
  EXPECT_EQ(kept, "\"é한😀\"");
  append_json_string(replaced, "a\xFFz");
  EXPECT_EQ(replaced, "\"a\xEF\xBF\xBDz\"");
}

TEST(Json, MalformedUseIsABrokenInvariant) {
  EXPECT_THROW(JsonWriter().begin_object().value(1), CheckFailure);
  EXPECT_THROW(JsonWriter().begin_array().key("k"), CheckFailure);
  EXPECT_THROW(JsonWriter().begin_array().end_object(), CheckFailure);
  EXPECT_THROW(JsonWriter().begin_object().key("k").end_object(), CheckFailure);
  EXPECT_THROW(JsonWriter().value(1).value(2), CheckFailure);
  EXPECT_THROW(JsonWriter().begin_array().text(), CheckFailure);
}

}  // namespace
}  // namespace troupe
