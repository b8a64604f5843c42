// train --trace: a file of JSON that has what every rank did, however the run ended.
#include <signal.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <map>

#include "runtime/base/result.h"
#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::Contains;
using testing::HasSubstr;

struct Span {
  std::string name;
  double begin = 0, end = 0;  // microseconds
  std::map<std::string, std::string> arguments;
};

// The file's events, read back.
struct Trace {
  explicit Trace(const std::string& text) {
    const auto events = boost::json::parse(text);
    for (const auto& value : events.as_array()) {
      const boost::json::object& event = value.as_object();
      const std::string phase(event.at("ph").as_string()), name(event.at("name").as_string());
      if (phase == "M" && name == "process_name") names[number(event, "pid")] = event.at("args").at("name").as_string();
      if (phase == "M" && name == "trace_end") dropped = event.at("args").at("dropped").to_number<int>();
      if (phase == "i") notes.push_back(name);
      if (phase == "s") sent.emplace_back(event.at("id").as_string(), number(event, "pid"));
      if (phase == "f") arrived.emplace_back(event.at("id").as_string(), number(event, "pid"));
      if (phase != "X") continue;
      Span span{name, event.at("ts").to_number<double>(), 0, {}};
      span.end = span.begin + event.at("dur").to_number<double>();
      if (const auto* arguments = event.if_contains("args")) {
        for (const auto& argument : arguments->as_object())
          span.arguments[std::string(argument.key())] = boost::json::serialize(argument.value());
      }
      lanes[{number(event, "pid"), number(event, "tid")}].push_back(std::move(span));
    }
  }
  static int number(const boost::json::object& event, const char* key) { return event.at(key).to_number<int>(); }
  std::vector<Span> lane(const std::string& process, int number) const {
    for (const auto& [pid, name] : names) {
      if (name == process && lanes.contains({pid, number})) return lanes.at({pid, number});
    }
    return {};
  }

  std::map<int, std::string> names;  // of processes
  std::map<std::pair<int, int>, std::vector<Span>> lanes;
  std::vector<std::pair<std::string, int>> sent, arrived;  // id of a message, process
  std::vector<std::string> notes;
  int dropped = -1;
};

constexpr int kSteps = 0, kCommunication = 1, kLoop = 2, kHeadLoop = 3;

int count(const std::vector<Span>& lane, const std::string& name) {
  return static_cast<int>(std::ranges::count(lane, name, &Span::name));
}

// Spans of a lane lie within each other or apart. Times are rounded to the nanosecond.
void expect_nested(std::vector<Span> lane) {
  constexpr double kRounding = 0.01;
  std::ranges::sort(
      lane, [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
  std::vector<Span> around;
  for (const Span& span : lane) {
    while (!around.empty() && around.back().end <= span.begin + kRounding) around.pop_back();
    if (!around.empty())
      EXPECT_LE(span.end, around.back().end + kRounding) << span.name << " in " << around.back().name;
    around.push_back(span);
  }
}

class Traces : public EndToEnd {
 protected:
  std::vector<std::string> arguments(const std::string& mode, int ranks, const std::vector<std::string>& settings) {
    std::vector<std::string> all = train_arguments("out", settings);
    all.insert(all.end(), {mode, std::to_string(ranks), "--trace", "trace.json"});
    return all;
  }
  // What each rank's lanes hold after `steps` steps.
  void expect_ranks(const Trace& trace, int ranks, int steps) const {
    double begin = 1e300, end = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      SCOPED_TRACE(rank);
      const std::vector<Span> lane = trace.lane(fmt::format("rank {}", rank), kSteps);
      for (const char* phase : {"forward", "optimizer"}) EXPECT_EQ(count(lane, phase), steps) << phase;
      // One block's gradients travel while the next is computed.
      for (const char* phase : {"backward", "gradient all-reduce"}) EXPECT_GT(count(lane, phase), steps) << phase;
      EXPECT_GE(count(lane, "data"), steps) << "and once more where a stop was heard before the step";
      EXPECT_GE(count(lane, "step"), steps);
      EXPECT_EQ(count(lane, "checkpoint stage") > 0, rank == 0) << "which alone stages";
      double computed = 0;
      for (const Span& span : lane) {
        EXPECT_GE(span.begin, 0);
        EXPECT_LE(span.end - span.begin, 60e6);
        begin = std::min(begin, span.begin);
        end = std::max(end, span.end);
        if (span.name == "forward" || span.name == "backward") computed += span.end - span.begin;
      }
      EXPECT_GT(computed, 10.0 * steps) << "microseconds";
      const std::vector<Span> collectives = trace.lane(fmt::format("rank {}", rank), kCommunication);
      // Targets and whether to stop, losses, gradients of each block and of both ends.
      EXPECT_GE(count(collectives, "all_reduce"), 6 * steps);
      const auto gradients = std::ranges::max_element(collectives, {}, [](const Span& span) {
        return span.arguments.contains("bytes") ? std::stoll(span.arguments.at("bytes")) : 0;
      });
      EXPECT_GT(std::stoll(gradients->arguments.at("bytes")), 10'000);
      EXPECT_EQ(gradients->arguments.at("dtype"), "\"f32\"");
      EXPECT_EQ(gradients->arguments.at("group"), "\"data\"");
    }
    EXPECT_LT(end - begin, 60e6) << "one time axis";
    for (const auto& [place, lane] : trace.lanes) expect_nested(lane);
  }
  // Every message that came was sent.
  static void expect_arrows(const Trace& trace, bool between_processes) {
    std::map<std::string, int> from(trace.sent.begin(), trace.sent.end());
    int across = 0;
    for (const auto& [id, process] : trace.arrived) {
      ASSERT_TRUE(from.contains(id)) << id;
      across += from.at(id) != process ? 1 : 0;
    }
    EXPECT_FALSE(trace.arrived.empty());
    EXPECT_EQ(across > 0, between_processes);
  }
};

TEST_F(Traces, OfRanksThatAreThreads) {
  const Outcome outcome = troupe(arguments("--ranks", 2, {"train.validate_every=10"}));
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.out, HasSubstr("events in trace.json"));
  const Trace trace(read("trace.json"));
  expect_ranks(trace, 2, 20);
  expect_arrows(trace, false);
  EXPECT_EQ(trace.dropped, 0);
  EXPECT_EQ(count(trace.lane("rank 1", kSteps), "validation"), 2);
  EXPECT_GE(count(trace.lane("head", kHeadLoop), "HeadActor::stepped"), 20);
  EXPECT_GE(count(trace.lane("head", kLoop), "TrainerActor::run"), 2);
}

TEST_F(Traces, OfOneRankAndTheSameLossesAsWithout) {
  EXPECT_EQ(troupe(arguments("--ranks", 1, {})).exit_code, 0);
  train_well("without");
  EXPECT_EQ(metric("out", "loss"), metric("without", "loss"));
  const Trace trace(read("trace.json"));
  EXPECT_EQ(count(trace.lane("rank 0", kSteps), "backward"), 20);
}

TEST_F(Traces, OfRanksThatAreProcessesInOneFileAndOnOneTimeAxis) {
#ifndef TROUPE_WITH_MPI
  GTEST_SKIP() << "built without MPI";
#endif
  const Outcome outcome = troupe(arguments("--processes", 2, {}));
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  const Trace trace(read("trace.json"));
  expect_ranks(trace, 2, 20);
  expect_arrows(trace, true);
  EXPECT_EQ(trace.dropped, 0);
  for (const char* rank : {"rank 0", "rank 1"}) {
    EXPECT_GE(count(trace.lane(rank, kLoop), "TrainerActor::run"), 1);
    EXPECT_GE(count(trace.lane(rank, kLoop), "on_stop"), 1) << "its last words arrive";
  }
  // The head asks before a rank begins, and hears of a step after it was made.
  const std::vector<Span> head = trace.lane("head", kHeadLoop), steps = trace.lane("rank 0", kSteps);
  const auto begins = [](const std::vector<Span>& lane, const std::string& name) {
    return std::ranges::find(lane, name, &Span::name)->begin;
  };
  EXPECT_LT(begins(head, "HeadActor::run"), begins(steps, "step"));
  EXPECT_LT(begins(steps, "optimizer"), begins(head, "HeadActor::stepped"));
}

TEST_F(Traces, AnInterruptedRunHasItsTrace) {
  for (const char* mode : {"--ranks", "--processes"}) {
#ifndef TROUPE_WITH_MPI
    if (std::string_view(mode) == "--processes") continue;
#endif
    SCOPED_TRACE(mode);
    std::vector<std::string> all = arguments(mode, 2, {"train.steps=1000000"});
    std::ranges::replace(all, std::string("out"), std::string("out") + mode);
    RunningProgram program(all, here());
    const std::string out = std::string("out") + mode;
    EXPECT_TRUE(program.wait_until([&] { return lines(out) >= 3; }));
    EXPECT_FALSE(exists("trace.json")) << "before it is whole";
    program.send(SIGINT);
    const Outcome outcome = program.wait();
    EXPECT_EQ(outcome.exit_code, 75) << describe(outcome);
    expect_ranks(Trace(read("trace.json")), 2, static_cast<int>(lines(out)));
    std::filesystem::remove(path("trace.json"));
  }
}

TEST_F(Traces, APathThatCannotBeWrittenIsSaidBeforeTrainingStarts) {
  std::vector<std::string> all = train_arguments("out", {});
  all.insert(all.end(), {"--trace", "no/such/folder/trace.json"});
  expect_failure(troupe(all), 2, {"--trace", "no/such/folder/trace.json"});
  EXPECT_FALSE(exists("out/metrics.jsonl"));
  all.back() = ".";
  expect_failure(troupe(all), 2, {"--trace", "folder"});
  all.back() = "/proc/trace.json";
  const Outcome forbidden = troupe(all);
  EXPECT_THAT((std::vector<int>{2, 3}), Contains(forbidden.exit_code)) << describe(forbidden);
}

}  // namespace
}  // namespace troupe::e2e
