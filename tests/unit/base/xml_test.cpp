#include "runtime/base/xml.h"

#include <gtest/gtest.h>

#include "tests/unit/xml_checker.h"

namespace troupe {
namespace {

TEST(Xml, TheCheckerOfPicturesFindsWhatIsWrong) {
  EXPECT_EQ(what_is_wrong_in_xml("<a b=\"c\"><d/>x &amp; y</a>\n"), "");
  for (const char* bad : {"<a>", "<a></b>", "<a b=c/>", "x & y", "<a b=\"<\"/>", "</a>"})
    EXPECT_NE(what_is_wrong_in_xml(bad), "") << bad;
}

TEST(Xml, AnyTextCanStandBetweenTags) {
  EXPECT_EQ(xml_text("a < b & c\n\x01é"), "a &lt; b &amp; c  é");
  EXPECT_EQ(what_is_wrong_in_xml("<t>" + xml_text("</t><t x=\"&") + "</t>"), "");
}

}  // namespace
}  // namespace troupe
