// How a message's content becomes bytes and back, for actors on other nodes. A type that can travel has a Wire,
// specialised beside the actor that speaks it:
//
//   template <> struct Wire<RunPlan> {
//     static net::Body encode(const RunPlan& plan);               // a Cap'n Proto message, and buffers
//     static Result<RunPlan> decode(const net::Body& body);       // checks: the bytes come from outside
//   };
//
// A method whose argument or answer has none is local: to ask it on another node is an error that says so.
#pragma once
#include <concepts>
#include <tuple>

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

}  // namespace troupe::actor
