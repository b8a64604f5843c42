// What a group tells of its operations: to a trace when they have been waited for, to whoever asks while they last.
#include <gmock/gmock.h>

#include "runtime/base/trace.h"
#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

using testing::HasSubstr;

// One rank's, and used by its thread alone.
struct Recorded : TraceSink {
  struct Span {
    std::string name, group;
    int64_t bytes = -1;
    std::chrono::nanoseconds begin, end;
  };
  void span(const TraceSpan& span) override {
    Span& recorded = spans.emplace_back(Span{std::string(span.name), "", -1, span.begin, span.begin + span.duration});
    EXPECT_EQ(span.category, "communication");
    EXPECT_EQ(span.lane, kCommunicationLane);
    for (const TraceArgument& argument : span.arguments) {
      if (argument.name == "bytes") recorded.bytes = std::get<int64_t>(argument.value);
      if (argument.name == "group") recorded.group = std::get<std::string_view>(argument.value);
    }
  }
  void sent(uint64_t, std::chrono::nanoseconds, int64_t) override { ADD_FAILURE(); }
  std::vector<Span> spans;
};

TEST_P(Conformance, ATraceHasEveryOperationOnceWithItsBytesInSpansThatNest) {
  world().run([](Communicator& comm, Device& device) {
    Recorded trace;
    comm.trace_to(&trace);
    const auto before = std::chrono::steady_clock::now().time_since_epoch();
    const Tensor x = Tensor::zeros(device, DType::f32, {1000}), y = Tensor::zeros(device, DType::f64, {7});
    Pending first = comm.all_reduce(x), second = comm.all_reduce(y);
    second.wait();
    first.wait();
    comm.broadcast(y, 0).wait();
    comm.barrier();
    comm.trace_to(nullptr);
    const auto after = std::chrono::steady_clock::now().time_since_epoch();
    comm.barrier();

    std::vector<std::pair<std::string, int64_t>> told;
    std::chrono::nanoseconds end = before;
    Recorded::Span outer;
    for (const Recorded::Span& span : trace.spans) {
      EXPECT_GE(span.end, span.begin);
      EXPECT_LE(span.end, after);
      if (span.name == "wait for other ranks") {
        EXPECT_GE(span.begin, outer.begin);
        EXPECT_LE(span.end, outer.end);
        continue;
      }
      EXPECT_GE(span.begin, end);
      EXPECT_EQ(span.group, comm.name());
      told.emplace_back(span.name, span.bytes);
      end = span.end;
      outer = span;
    }
    const std::vector<std::pair<std::string, int64_t>> expected{
        {"all_reduce", 56}, {"all_reduce", 4000}, {"broadcast", 56}, {"barrier", 0}};
    EXPECT_EQ(told, expected);
  });
}

TEST_P(Failures, WhatIsUnderWayIsToldWithWhoIsAwaited) {
  world().run([](Communicator& comm, Device& device) {
    const Tensor x = Tensor::zeros(device, DType::f32, {3}), go = Tensor::zeros(device, DType::u8, {1});
    EXPECT_EQ(comm.under_way(), "");
    if (comm.rank() == 0) {
      Pending pending = comm.all_reduce(x);
      const std::string text = comm.under_way();
      EXPECT_THAT(text, HasSubstr("s in all_reduce (sum) of 3 f32 of group \"world\", waiting for rank "));
      if (comm.size() == 2) EXPECT_THAT(text, HasSubstr("rank 1"));
      for (int rank = 1; rank < comm.size(); ++rank) comm.send(go, rank).wait();
      pending.wait();
    } else {
      comm.receive(go, 0).wait();
      comm.all_reduce(x).wait();
    }
    comm.barrier();
    EXPECT_EQ(comm.under_way(), "");
  });
}

}  // namespace
}  // namespace troupe::parallel
