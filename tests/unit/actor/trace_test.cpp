// What a trace of handlers says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/actor/script.h"

namespace troupe::actor {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

struct Recorded : TraceSink {
  void span(const TraceSpan& span) override {
    lines.push_back(fmt::format("{} of {} at {} ms{}", span.name, span.detail, span.begin / 1ms,
                                span.arrived ? ", sent by another" : ""));
    traces.push_back(span.trace);
    if (span.arrived) arrived.push_back(span.trace);
  }
  void sent(uint64_t trace, std::chrono::nanoseconds, int64_t) override { left.push_back(trace); }
  std::vector<std::string> lines;
  std::vector<uint64_t> traces, left, arrived;
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
  EXPECT_THAT(sink.lines, ElementsAre("Calling::call of a at 0 ms", "Answering::answer of b at 0 ms, sent by another",
                                      "Answering::answer of b at 2 ms", "Calling::call of a at 2 ms"));
  for (const uint64_t trace : sink.traces) EXPECT_EQ(trace >> 32, sink.traces[0] >> 32);
  EXPECT_NE(sink.traces[0] >> 32, 0u);
  EXPECT_EQ(sink.left, sink.arrived);
  EXPECT_NE(sink.traces[0], sink.traces[1]) << "each message has a number of its own";
}

}  // namespace
}  // namespace troupe::actor
