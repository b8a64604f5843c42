// What a trace of handlers says, and that its file is JSON that a viewer reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/base/chrome_trace.h"
#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

struct Recorded : TraceSink {
  void span(const TraceSpan& span) override {
    lines.push_back(fmt::format("{} of {} at {} ms", span.name, span.detail, span.begin / 1ms));
    traces.push_back(span.trace);
  }
  std::vector<std::string> lines;
  std::vector<uint64_t> traces;
};

class Answering : public Actor {
 public:
  Task<int> answer() {
    (void)co_await sleep(2ms);
    co_return 42;
  }
};
class Calling : public Actor {
 public:
  explicit Calling(Ref<Answering> other) : other_(other) {}
  Task<int> call() { co_return (co_await other_.ask<&Answering::answer>(1s)).value(); }

 private:
  Ref<Answering> other_;
};

TEST(Trace, TellsEveryPieceOfEveryHandlerAndWhatCausedIt) {
  SimulatedLoop loop;
  Recorded sink;
  Node node({.trace = &sink}, {&loop});
  const auto answering = node.spawn<Answering>({.name = "b"});
  const auto calling = node.spawn<Calling>({.name = "a"}, answering);
  EXPECT_TRUE(calling.try_tell<&Calling::call>().ok());
  loop.advance(1s);
  EXPECT_THAT(sink.lines, ElementsAre("Calling::call of a at 0 ms", "Answering::answer of b at 0 ms",
                                      "Answering::answer of b at 2 ms", "Calling::call of a at 2 ms"));
  for (const uint64_t trace : sink.traces) EXPECT_EQ(trace, sink.traces[0]);
  EXPECT_NE(sink.traces[0], 0u);
}

TEST(ChromeTrace, WritesJsonThatHasEverySpan) {
  const std::string path = testing::TempDir() + "chrome_trace.json";
  auto trace = ChromeTrace::open(path, "rank \"3\"", 3);
  ASSERT_TRUE(trace.ok()) << trace.error().message();
  (*trace)->name_lane(0, "loop 0");
  for (int i = 0; i < 5000; ++i) {
    (*trace)->span({.category = "compute",
                    .name = "forward",
                    .detail = "block 1",
                    .begin = i * 10us,
                    .duration = 1500ns,
                    .lane = 7,
                    .trace = 255});
  }
  EXPECT_TRUE((*trace)->finish().ok());
  (*trace)->span({.category = "compute", .name = "too late", .detail = {}});
  trace->reset();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const auto events = boost::json::parse(text.str()).as_array();
  ASSERT_EQ(events.size(), 5003u);
  const auto& first = events[2].as_object();
  EXPECT_EQ(first.at("name").as_string(), "forward");
  EXPECT_EQ(first.at("dur").to_number<double>(), 1.5);
  EXPECT_EQ(first.at("pid").to_number<int>(), 3);
  EXPECT_EQ(first.at("args").at("trace").as_string(), "ff");
  std::filesystem::remove(path);
}

TEST(ChromeTrace, SaysWhereItCannotWrite) {
  EXPECT_EQ(ChromeTrace::open("/nonexistent/trace.json", "x", 0).error().message(),
            "/nonexistent/trace.json: No such file or directory");
  auto full = ChromeTrace::open("/dev/full", "x", 0);
  ASSERT_TRUE(full.ok());
  EXPECT_EQ((*full)->finish().error().message(), "/dev/full: No space left on device");
}

}  // namespace
}  // namespace troupe::actor
