#include "runtime/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/base/file.h"

namespace troupe {
namespace {

using testing::ElementsAre;

class LogTest : public testing::Test {
 protected:
  Logger make(LogLevel level = LogLevel::info) {
    return Logger::to_function(clock, [this](LogLevel, std::string_view line) { lines.emplace_back(line); }, level);
  }
  ManualClock clock;
  std::vector<std::string> lines;
};

TEST_F(LogTest, LinesHaveTimeLevelAndMessage) {
  const Logger log = make();
  log.info("step {} of {}", 3, 10);
  clock.advance(std::chrono::milliseconds(61'234));
  log.warning("slow");
  log.error("{}", "100% {braces}");
  EXPECT_THAT(lines, ElementsAre("2001-09-09 01:46:40.000 info    step 3 of 10", "2001-09-09 01:47:41.234 warning slow",
                                 "2001-09-09 01:47:41.234 error   100% {braces}"));
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  const Logger log = make(LogLevel::warning);
  log.debug("a");
  log.info("b");
  log.warning("c");
  log.error("d");
  EXPECT_EQ(lines.size(), 2u);
  const Logger all = make(LogLevel::debug);
  all.debug("e");
  EXPECT_EQ(lines.back(), "2001-09-09 01:46:40.000 debug   e");
  Logger::none().error("nowhere");
  Logger::none().named("x").error("nowhere");
}

TEST_F(LogTest, NamesStandBeforeTheMessage) {
  const Logger log = make();
  log.named("rank 2").named("data").info("ready");
  log.info("ready");
  EXPECT_THAT(lines, ElementsAre("2001-09-09 01:46:40.000 info    rank 2: data: ready",
                                 "2001-09-09 01:46:40.000 info    ready"));
}

TEST_F(LogTest, LevelsReachTheSinkAndReadFromWords) {
  std::vector<LogLevel> levels;
  const Logger log =
      Logger::to_function(clock, [&](LogLevel level, std::string_view) { levels.push_back(level); }, LogLevel::debug);
  log.debug("");
  log.info("");
  log.warning("");
  log.error("");
  EXPECT_THAT(levels, ElementsAre(LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error));
  EXPECT_EQ(parse_log_level("warning").value(), LogLevel::warning);
  EXPECT_EQ(parse_log_level("loud").error().kind(), ErrorKind::usage);
}

TEST_F(LogTest, FilesAreAppendedToAndPlain) {
  const std::string path = testing::TempDir() + "log_test.log";
  std::remove(path.c_str());
  for (const char* word : {"one", "two"}) {
    auto log = Logger::to_file(clock, path);
    ASSERT_TRUE(log.ok());
    log->info("{}", word);
  }
  EXPECT_EQ(read_file(path).value(), "2001-09-09 01:46:40.000 info    one\n2001-09-09 01:46:40.000 info    two\n");
  std::remove(path.c_str());
}

TEST_F(LogTest, UnwritableFilesAreNamed) {
  const auto log = Logger::to_file(clock, "/proc/none/log");
  ASSERT_FALSE(log.ok());
  EXPECT_TRUE(log.error().message().starts_with("/proc/none/log: cannot open the log")) << log.error().message();
}

TEST_F(LogTest, AFullDiskDropsLinesAndCountsThem) {
  auto log = Logger::to_file(clock, "/dev/full");
  ASSERT_TRUE(log.ok());
  log->info("lost");
  EXPECT_EQ(log->dropped_lines(), 1);
  const Logger throwing = Logger::to_function(clock, [](LogLevel, std::string_view) { throw std::runtime_error("x"); });
  throwing.info("lost");
  EXPECT_EQ(throwing.dropped_lines(), 1);
}

TEST_F(LogTest, LinesOfSeveralThreadsDoNotMix) {
  const Logger log = make();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 100; ++i) log.info("{}", std::string(50, 'x'));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(lines.size(), 400u);
  for (const auto& line : lines) EXPECT_TRUE(line.ends_with("info    " + std::string(50, 'x'))) << line;
}

}  // namespace
}  // namespace troupe
