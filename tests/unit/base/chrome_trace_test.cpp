// That a trace is JSON that a viewer reads, and what of it is lost, and said to be.
#include "runtime/base/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>

namespace troupe {
namespace {

using namespace std::chrono_literals;
using boost::json::object;
using testing::HasSubstr;
using testing::IsEmpty;

class ChromeTraces : public testing::Test {
 protected:
  ChromeTraces() : path_(testing::TempDir() + "chrome_trace_test.json") { std::filesystem::remove(path_); }
  ~ChromeTraces() override { std::filesystem::remove(path_); }

  std::unique_ptr<TraceFile> open(int64_t most_bytes = 1 << 20) {
    return std::move(TraceFile::open(files_, path_, most_bytes)).value();
  }
  static ChromeTrace::Take into(TraceFile& file) {
    return [&file](const TracePiece& piece) {
      file.append(piece);
      return true;
    };
  }
  // The events of a kind: "X", "s", "f", "M", "i".
  std::vector<object> events(std::string_view phase) const {
    std::vector<object> found;
    const auto all = boost::json::parse(read_file(path_).value());
    for (const auto& event : all.as_array()) {
      if (event.at("ph").as_string() == phase) found.push_back(event.as_object());
    }
    return found;
  }
  static TraceSpan forward(std::chrono::nanoseconds begin) {
    return {.category = "compute", .name = "forward", .detail = "block 1", .begin = begin, .duration = 1500ns};
  }

  PosixFileSystem files_;
  const std::string path_;
};

TEST_F(ChromeTraces, EverySpanOfEveryProcessIsThereInMicrosecondsSinceTheOrigin) {
  const auto file = open();
  {
    ChromeTrace head({.number = 1, .name = "head", .origin = 1s}, into(*file));
    ChromeTrace rank({.number = 5, .name = "rank \"3\"", .label = "host a", .origin = 1s}, into(*file));
    rank.name_lane(kStepLane, "steps");
    for (int i = 0; i < 2000; ++i) rank.span(forward(1s + i * 10us));
    head.span(forward(1s));
  }
  const auto summary = file->finish();
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->dropped, 0);
  const auto spans = events("X");
  ASSERT_EQ(spans.size(), 2001u);
  EXPECT_EQ(summary->events, 2001 + 4);
  const object& third = spans[2];
  EXPECT_EQ(third.at("name").as_string(), "forward");
  EXPECT_EQ(third.at("ts").to_number<double>(), 20.0);
  EXPECT_EQ(third.at("dur").to_number<double>(), 1.5);
  EXPECT_EQ(third.at("pid").to_number<int>(), 5);
  EXPECT_EQ(third.at("args").at("of").as_string(), "block 1");
  EXPECT_EQ(events("M")[0].at("args").at("name").as_string(), "rank \"3\"");
}

TEST_F(ChromeTraces, AMessageIsAnArrowFromWhereItWasSentToWhereItArrived) {
  const auto file = open();
  {
    ChromeTrace trace({.number = 1, .name = "head"}, into(*file));
    trace.sent(0xab00000001, 2us, kLoopLane);
    trace.span({.category = "message", .name = "Rank::run", .begin = 5us, .trace = 0xab00000001, .arrived = true});
    trace.span({.category = "message", .name = "Rank::run", .begin = 9us, .trace = 0xab00000001});
  }
  ASSERT_TRUE(file->finish().ok());
  ASSERT_EQ(events("s").size(), 1u);
  ASSERT_EQ(events("f").size(), 1u) << "where it goes on it has not come again";
  EXPECT_EQ(events("s")[0].at("id"), events("f")[0].at("id"));
  EXPECT_EQ(events("f")[0].at("ts").to_number<double>(), 5.0);
  EXPECT_EQ(events("X")[0].at("args").at("trace").as_string(), "ab");
}

TEST_F(ChromeTraces, WhatIsOverTheLimitIsCountedAndTheFileStaysWhole) {
  const auto file = open(100'000);
  {
    ChromeTrace trace({.number = 1, .name = "head"}, into(*file));
    for (int i = 0; i < 5000; ++i) trace.span(forward(i * 1us));
    file->note(1ms, "rank 1 was lost");
  }
  const auto summary = file->finish();
  ASSERT_TRUE(summary.ok());
  EXPECT_GT(summary->dropped, 1000);
  EXPECT_EQ(summary->events + summary->dropped, 5000 + 1 + 1);
  EXPECT_LE(file_size_bytes(path_).value(), 101'000);
  EXPECT_EQ(events("i")[0].at("name").as_string(), "rank 1 was lost");
  EXPECT_EQ(events("M").back().at("args").at("dropped").to_number<int64_t>(), summary->dropped);
}

TEST_F(ChromeTraces, WhatNobodyTakesIsBoundedAndCounted) {
  std::vector<TracePiece> taken;
  ChromeTrace trace({.number = 1, .name = "head"});
  for (int i = 0; i < 100'000; ++i) trace.span(forward(i * 1us));
  bool takes = false;
  trace.deliver_to([&](TracePiece piece) {
    if (takes) taken.push_back(std::move(piece));
    return takes;
  });
  trace.flush();
  EXPECT_THAT(taken, IsEmpty());
  takes = true;
  trace.span(forward(1s));
  trace.flush();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].lost, 100'000 + 1) << "and its name";
  EXPECT_THAT(taken[0].lines, HasSubstr("forward"));
}

TEST_F(ChromeTraces, APieceIsHandedOnWhenItIsHalfASecondOld) {
  int pieces = 0;
  ChromeTrace trace({.number = 1, .name = "head"}, [&](const TracePiece&) { return ++pieces > 0; });
  trace.span(forward(100ms));
  EXPECT_EQ(pieces, 0);
  trace.span(forward(501ms));
  EXPECT_EQ(pieces, 1);
}

TEST_F(ChromeTraces, APathThatCannotBeWrittenIsSaidAtOnce) {
  const auto absent = TraceFile::open(files_, "/nonexistent/trace.json");
  EXPECT_EQ(absent.error().kind(), ErrorKind::usage);
  EXPECT_THAT(absent.error().message(), HasSubstr("/nonexistent/trace.json"));
  EXPECT_EQ(TraceFile::open(files_, testing::TempDir()).error().kind(), ErrorKind::usage);
}

TEST_F(ChromeTraces, WithoutAnEndThereIsNoFile) {
  open();
  EXPECT_FALSE(exists(path_));
  EXPECT_FALSE(exists(path_ + ".tmp"));
}

}  // namespace
}  // namespace troupe
