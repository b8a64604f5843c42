// Methods<&Head::run, …> gives each method that other nodes may call a number: its place in the list. Everything
// else about a method is read off its type.
#pragma once
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "runtime/actor/task.h"

namespace troupe::actor {

struct MethodInfo {
  std::string_view name;  // "Head::run"
  uint16_t number;        // in T::Protocol; kLocalMethod: cannot be called from other nodes
};
constexpr uint16_t kLocalMethod = 0xFFFF;

// What a handler's return type answers an ask with: R for R, Result<R>, Task<R> and Task<Result<R>>.
template <class R>
struct Reply {
  using Type = R;
  static constexpr bool is_task = false;
};
template <class R>
struct Reply<Result<R>> : Reply<R> {
  static_assert(!Reply<R>::is_task);
};
template <class R>
struct Reply<Task<R>> : Reply<R> {
  static constexpr bool is_task = true;
};

template <class M>
struct MethodTraits;
template <class T, class R, class... A>
struct MethodTraits<R (T::*)(A...)> {
  using Actor = T;
  using Return = R;
  using Arguments = std::tuple<std::decay_t<A>...>;
  using Answer = typename Reply<R>::Type;
  static constexpr bool is_task = Reply<R>::is_task;
  static_assert(((!std::is_lvalue_reference_v<A> || std::is_same_v<A, const std::decay_t<A>&>) && ...),
                "a message owns its arguments: take them by value or const reference");
};
template <class T, class R, class... A>
struct MethodTraits<R (T::*)(A...) const> : MethodTraits<R (T::*)(A...)> {};
template <auto M>
using Traits = MethodTraits<decltype(M)>;

// "Head::run" of &troupe::train::Head::run.
template <auto M>
constexpr std::string_view method_name() {
  std::string_view name = __PRETTY_FUNCTION__;  // "… [M = &troupe::train::Head::run]"
  name.remove_prefix(name.rfind("M = ") + 4);
  name.remove_suffix(1);
  if (name.starts_with('&')) name.remove_prefix(1);
  const auto method = name.rfind("::");
  const auto type = method == std::string_view::npos ? method : name.rfind("::", method - 1);
  return type == std::string_view::npos ? name : name.substr(type + 2);
}

// "Head" of troupe::train::Head.
template <class T>
constexpr std::string_view type_name() {
  std::string_view name = __PRETTY_FUNCTION__;  // "… [T = troupe::train::Head]"
  name.remove_prefix(name.rfind("T = ") + 4);
  name.remove_suffix(1);
  const auto scope = name.rfind("::");
  return scope == std::string_view::npos ? name : name.substr(scope + 2);
}

template <auto>
struct Constant;

template <auto... M>
struct Methods {
  static constexpr uint16_t kCount = sizeof...(M);
  template <auto N>
  static constexpr uint16_t number_of() {
    uint16_t number = kLocalMethod, next = 0;
    ((std::is_same_v<Constant<M>, Constant<N>> ? void(number = next++) : void(next++)), ...);
    return number;
  }
};

template <auto M>
constexpr MethodInfo kMethod = [] {
  uint16_t number = kLocalMethod;
  if constexpr (requires { typename Traits<M>::Actor::Protocol; }) {
    number = Traits<M>::Actor::Protocol::template number_of<M>();
  }
  return MethodInfo{method_name<M>(), number};
}();

}  // namespace troupe::actor
