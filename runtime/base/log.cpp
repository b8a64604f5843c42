#include "runtime/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <system_error>
#include <utility>

namespace troupe {
namespace {

constexpr std::array<std::string_view, 5> kNames{"debug", "info", "warning", "error", "off"};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: break;
  }
  return spdlog::level::off;
}

class FunctionSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FunctionSink(std::function<void(LogLevel, std::string_view)> sink) : sink_(std::move(sink)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const LogLevel level = message.level >= spdlog::level::err    ? LogLevel::error
                           : message.level == spdlog::level::warn ? LogLevel::warning
                           : message.level == spdlog::level::info ? LogLevel::info
                                                                  : LogLevel::debug;
    sink_(level, {line.data(), line.size()});
  }
  void flush_() override {}

  std::function<void(LogLevel, std::string_view)> sink_;
};

}  // namespace

struct Logger::Output {
  const Clock* clock = nullptr;
  std::unique_ptr<spdlog::logger> log;
  std::atomic<int64_t> dropped{0};

  Output(const Clock& c, spdlog::sink_ptr sink, std::string_view before, std::string_view end) : clock(&c) {
    log = std::make_unique<spdlog::logger>("", std::move(sink));
    log->set_level(spdlog::level::trace);
    log->flush_on(spdlog::level::trace);
    log->set_error_handler([this](const std::string&) { ++dropped; });
    // %^ and %$ bound what a terminal colours.
    log->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        fmt::format("{}%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %v", before), spdlog::pattern_time_type::utc, std::string(end)));
  }
};

Result<LogLevel> parse_log_level(std::string_view word) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == word) return static_cast<LogLevel>(i);
  }
  return usage_error("log level \"{}\"; debug, info, warning, error or off is wanted", word);
}

Logger::Logger(std::shared_ptr<Output> output, std::string name, LogLevel level)
    : output_(std::move(output)), prefix_(std::move(name)), level_(output_ ? level : LogLevel::off) {}
Logger::~Logger() = default;
Logger::Logger(Logger&&) noexcept = default;
Logger& Logger::operator=(Logger&&) noexcept = default;

Logger Logger::to_stderr(const Clock& clock, LogLevel level) {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  auto sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(terminal ? spdlog::color_mode::always
                                                                                 : spdlog::color_mode::never);
  return {std::make_shared<Output>(clock, std::move(sink), terminal ? "\r\033[K" : "", "\n"), "", level};
}

Result<Logger> Logger::to_file(const Clock& clock, const std::string& path, LogLevel level) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    return Logger(std::make_shared<Output>(clock, std::move(sink), "", "\n"), "", level);
  } catch (const spdlog::spdlog_ex& error) {
    return failed("{}: cannot open the log: {}", path, error.what());
  }
}

Logger Logger::to_function(const Clock& clock, std::function<void(LogLevel, std::string_view)> sink, LogLevel level) {
  return {std::make_shared<Output>(clock, std::make_shared<FunctionSink>(std::move(sink)), "", ""), "", level};
}

Logger Logger::none() { return {nullptr, "", LogLevel::off}; }

Logger Logger::named(std::string_view name) const { return {output_, fmt::format("{}{}: ", prefix_, name), level_}; }

int64_t Logger::dropped_lines() const { return output_ ? output_->dropped.load() : 0; }

void Logger::write(LogLevel level, std::string_view message) const {
  if (prefix_.empty()) {
    output_->log->log(output_->clock->wall(), {}, to_spdlog(level), message);
  } else {
    output_->log->log(output_->clock->wall(), {}, to_spdlog(level), prefix_ + std::string(message));
  }
}

}  // namespace troupe
