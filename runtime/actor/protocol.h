// What a node knows of an actor's Protocol when a message for it comes over a link: for each number, the method and
// how its message is made from bytes.
#pragma once
#include <array>
#include <span>

#include "runtime/actor/call.h"

namespace troupe::actor {

struct ProtocolEntry {
  const MethodInfo* method;
  Result<std::unique_ptr<Message>> (*decode)(const net::Body& body);
};
using ProtocolTable = std::span<const ProtocolEntry>;

template <auto M>
Result<std::unique_ptr<Message>> decode_call(const net::Body& body) {
  return std::unique_ptr<Message>(
      std::make_unique<Call<M>>(TROUPE_TRY(decode_arguments<typename Traits<M>::Arguments>(body))));
}

template <auto M>
constexpr ProtocolEntry protocol_entry() {
  static_assert(arguments_can_travel<typename Traits<M>::Arguments>,
                "a method in a Protocol takes nothing, or one argument that has a Wire");
  static_assert(CanTravel<typename Traits<M>::Answer>, "the answer of a method in a Protocol has a Wire");
  return {&kMethod<M>, &decode_call<M>};
}

template <class P>
struct ProtocolEntries;
template <auto... M>
struct ProtocolEntries<Methods<M...>> {
  static constexpr std::array<ProtocolEntry, sizeof...(M)> kEntries{protocol_entry<M>()...};
};

template <class T>
ProtocolTable protocol_of() {
  if constexpr (requires { typename T::Protocol; }) return ProtocolEntries<typename T::Protocol>::kEntries;
  else return {};
}

}  // namespace troupe::actor
