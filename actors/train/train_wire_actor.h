// How the messages of a training run travel between nodes: train_wire.h, as the runtime asks for it.
#pragma once
#include "actors/train/train_wire.h"
#include "runtime/actor/wire.h"

namespace troupe::actor {

template <class T>
  requires requires(const T& message) {
    { train::encode(message) } -> std::same_as<net::Body>;
  }
struct Wire<T> {
  static net::Body encode(const T& message) { return train::encode(message); }
  static Result<T> decode(const net::Body& body) { return train::decode<T>(body); }
};

}  // namespace troupe::actor
