// Links and names, for handlers.
#pragma once
#include <string>
#include <typeinfo>

#include "runtime/actor/handoff.h"
#include "runtime/actor/node.h"

namespace troupe::actor {

// co_await connect(node(), transport, "head:7000", 5s): who is at the other end. REQUIRES: on the node's first loop.
Task<Result<net::Peer>> connect(Node& node, net::Transport& transport, std::string address,
                                std::chrono::nanoseconds timeout);

// The actor that is registered under that name on a linked node.
template <class T>
Task<Result<Ref<T>>> lookup(Node& node, uint64_t on_node, std::string name, std::chrono::nanoseconds timeout) {
  const Handoff<Address> address;
  node.find_on(on_node, name, typeid(T).name(),
               [sender = address.sender()](Result<Address> found) { sender.set(std::move(found)); });
  const Address found = TROUPE_CO_TRY(co_await address.wait(timeout));
  co_return node.ref<T>(found);
}

}  // namespace troupe::actor
