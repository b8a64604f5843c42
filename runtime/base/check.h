// TROUPE_CHECK: an invariant of ours. Broken, it throws CheckFailure with file, line and a message.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace troupe {

class CheckFailure : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition,
                                      const std::string& message = {}) {
  throw CheckFailure(
      fmt::format("{}:{}: check failed: {}{}{}", file, line, condition, message.empty() ? "" : ": ", message));
}

// TROUPE_CHECK(condition) or TROUPE_CHECK(condition, "format {}", values…).
#define TROUPE_CHECK(condition, ...)                                                                 \
  do {                                                                                               \
    if (!(condition)) [[unlikely]]                                                                   \
      ::troupe::check_failed(__FILE__, __LINE__, #condition __VA_OPT__(, fmt::format(__VA_ARGS__))); \
  } while (false)

}  // namespace troupe
