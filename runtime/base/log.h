// A log that is handed around: no global one. Each line is "2001-09-09 01:46:40.000 info  message" in
// UTC; colours only on a terminal. Lines below the level cost one comparison.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace troupe {

enum class LogLevel { debug, info, warning, error, off };

// Errors (usage) unless the word is debug, info, warning, error or off.
Result<LogLevel> parse_log_level(std::string_view word);

// Thread-safe. A line that cannot be written is dropped and counted. The clock must outlive the log.
class Logger {
 public:
  // Erases a progress line that stands in the terminal's last row (progress.h) before it writes.
  static Logger to_stderr(const Clock& clock, LogLevel level = LogLevel::info);
  // Appends; every line is flushed.
  static Result<Logger> to_file(const Clock& clock, const std::string& path, LogLevel level = LogLevel::info);
  // Hands every line, without its end, to a function; for tests and for forwarding. Calls never overlap.
  static Logger to_function(const Clock& clock, std::function<void(LogLevel, std::string_view line)> sink,
                            LogLevel level = LogLevel::info);
  // Drops all.
  static Logger none();

  ~Logger();
  Logger(Logger&&) noexcept;
  Logger& operator=(Logger&&) noexcept;

  LogLevel level() const { return level_; }
  // Puts "name: " before each message of the copy, e.g. "rank 2"; it writes to the same place.
  Logger named(std::string_view name) const;
  int64_t dropped_lines() const;

  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    if (level_ <= LogLevel::debug) write(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (level_ <= LogLevel::info) write(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    if (level_ <= LogLevel::warning) write(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    if (level_ <= LogLevel::error) write(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  struct Output;
  Logger(std::shared_ptr<Output> output, std::string name, LogLevel level);
  void write(LogLevel level, std::string_view message) const;

  std::shared_ptr<Output> output_;
  std::string prefix_;
  LogLevel level_;
};

}  // namespace troupe
