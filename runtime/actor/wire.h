// How a message's content becomes bytes and back, for actors on other nodes. A type that can travel has a Wire,
// specialised beside the actor that speaks it:
//
//   template <> struct Wire<RunPlan> {
//     static net::Body encode(const RunPlan& plan);               // a Cap'n Proto message, and buffers
//     static Result<RunPlan> decode(const net::Body& body);       // checks: the bytes come from outside
//   };
//
// Numbers, strings, buffers and addresses of actors have one already. What an actor's Protocol lists must be able to
// travel, argument and answer: the compiler says so where it cannot.
#pragma once
#include <concepts>
#include <cstring>
#include <string>
#include <tuple>

#include "runtime/actor/exit.h"
#include "runtime/base/check.h"
#include "runtime/base/result.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

template <class T>
struct Wire;

template <class T>
concept CanTravel = std::is_void_v<T> || requires(const T& value, const net::Body& body) {
  { Wire<T>::encode(value) } -> std::same_as<net::Body>;
  { Wire<T>::decode(body) } -> std::same_as<Result<T>>;
};

// Throws nothing: what a decoder trips over came from outside.
template <class T>
Result<T> decode_value(const net::Body& body) {
  try {
    return Wire<T>::decode(body);
  } catch (const std::exception& e) {
    return failed("malformed message: {}", e.what());
  } catch (...) {
    return failed("malformed message");
  }
}

// A message has one argument or none: a struct with a schema, which can grow.
template <class Arguments>
constexpr bool arguments_can_travel = false;
template <>
inline constexpr bool arguments_can_travel<std::tuple<>> = true;
template <CanTravel A>
constexpr bool arguments_can_travel<std::tuple<A>> = true;

template <class Arguments>
net::Body encode_arguments(const Arguments& arguments) {
  if constexpr (std::tuple_size_v<Arguments> == 1 && arguments_can_travel<Arguments>) {
    return Wire<std::tuple_element_t<0, Arguments>>::encode(std::get<0>(arguments));
  } else {
    TROUPE_CHECK(std::tuple_size_v<Arguments> == 0, "a message without a Wire was sent over a link");
    return {};
  }
}

template <class Arguments>
Result<Arguments> decode_arguments(const net::Body& body) {
  if constexpr (std::tuple_size_v<Arguments> == 0) {
    return Arguments();
  } else {
    return Arguments(TROUPE_TRY((decode_value<std::tuple_element_t<0, Arguments>>(body))));
  }
}

// Which actor is meant, wherever it is; Node::ref() makes a Ref of it.
struct Address {
  uint64_t node = 0;
  ActorId actor = 0;
  std::string name;
  friend bool operator==(const Address&, const Address&) = default;
};

// The runtime's own small messages: 64-bit numbers and texts one after the other, each a multiple of 8 bytes.
class BytesWriter {
 public:
  BytesWriter& number(uint64_t value);
  BytesWriter& text(std::string_view value);
  net::Body take() { return std::move(body_); }

 private:
  net::Body body_;
};

// Reads what a BytesWriter wrote. What is not there reads as 0 or "", and then ok() is false.
class BytesReader {
 public:
  explicit BytesReader(const net::Body& body) : BytesReader(std::span(body.words)) {}
  explicit BytesReader(std::span<const std::byte> bytes) : left_(bytes) {}
  uint64_t number();
  std::string text();
  // Everything was there, and nothing else.
  bool complete() const { return ok_ && left_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::span<const std::byte> left_;
  bool ok_ = true;
};

net::Body encode_error(const Error& error);
Error decode_error(const net::Body& body);

template <class T>
  requires std::is_arithmetic_v<T>
struct Wire<T> {
  static_assert(sizeof(T) <= 8);
  static net::Body encode(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return BytesWriter().number(bits).take();
  }
  static Result<T> decode(const net::Body& body) {
    BytesReader reader(body);
    const uint64_t bits = reader.number();
    if (!reader.complete()) return failed("malformed message: not a number");
    if constexpr (std::is_same_v<T, bool>) return bits != 0;
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
  }
};

template <>
struct Wire<std::string> {
  static net::Body encode(const std::string& value) { return BytesWriter().text(value).take(); }
  static Result<std::string> decode(const net::Body& body);
};

template <>
struct Wire<wire::Buffer> {
  static net::Body encode(const wire::Buffer& value) { return {{}, {value}}; }
  static Result<wire::Buffer> decode(const net::Body& body);
};

template <>
struct Wire<Address> {
  static net::Body encode(const Address& value) {
    return BytesWriter().number(value.node).number(value.actor).text(value.name).take();
  }
  static Result<Address> decode(const net::Body& body);
};

}  // namespace troupe::actor
