// Result<T>: a value, or an Error that a user can act on. A failure that can be foreseen travels as a
// Result; a broken invariant is a TROUPE_CHECK (check.h).
#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>

namespace troupe {

// What went wrong, in terms of what the caller of the program can do about it. The numbers are the
// program's exit codes.
enum class ErrorKind : int {
  failed = 1,        // it was tried and did not work
  usage = 2,         // bad command line or config
  environment = 3,   // this machine lacks something
  damaged = 4,       // data or checkpoint cannot be trusted
  interrupted = 75,  // stopped cleanly, state saved: run the same command again
};

// One line: what, where (file:line, tensor, rank), what to do.
class Error {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  int exit_code() const { return static_cast<int>(kind_); }

  // Puts "where: " before the message.
  Error within(std::string_view where) && {
    message_.insert(0, fmt::format("{}: ", where));
    return std::move(*this);
  }

 private:
  ErrorKind kind_;
  std::string message_;
};

template <class... Args>
Error failed(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::failed, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::usage, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Error environment_error(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::environment, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Error damaged(fmt::format_string<Args...> format, Args&&... args) {
  return {ErrorKind::damaged, fmt::format(format, std::forward<Args>(args)...)};
}

// Holds a T or an Error. REQUIRES: value() only when ok(), error() only when not.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return error_.index() == 0; }
  explicit operator bool() const { return ok(); }
  void value() const {}
  const Error& error() const& { return std::get<1>(error_); }
  Error&& error() && { return std::get<1>(std::move(error_)); }

 private:
  std::variant<std::monostate, Error> error_;
};

using Status = Result<void>;

// auto x = TROUPE_TRY(f());  takes f()'s value, or returns its error from the enclosing function.
#define TROUPE_TRY(expression)                                                \
  __extension__({                                                             \
    auto troupe_try_result = (expression);                                    \
    if (!troupe_try_result.ok()) return std::move(troupe_try_result).error(); \
    std::move(troupe_try_result).value();                                     \
  })

}  // namespace troupe
