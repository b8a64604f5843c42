// How an actor ended, told to everyone who waits for it. The first cause is handed on unchanged: whoever dies
// because another died says what that one died of.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/result.h"

namespace troupe::actor {

// An actor on its node: a place in the node's table, and how often that place was used before. Never 0.
using ActorId = uint64_t;

struct Exit {
  enum class Kind : uint8_t {
    stopped,  // as asked
    failed,   // a handler threw, or a child's failure was its own
    lost,     // its node went away
  };
  Kind kind = Kind::stopped;
  std::string who;    // "head/trainers"
  std::string where;  // "node n2, host gpu17, pid 411"
  std::string why;    // "in Trainer::step: loss is not finite"

  // "head/trainers (node n2, …) failed: in Trainer::step: loss is not finite"
  std::string message() const;
};
using Cause = std::shared_ptr<const Exit>;

// The actor that was watched has ended.
struct Down {
  uint64_t node = 0;
  ActorId actor = 0;
  std::string name;  // the actor's own; the cause may be another's
  Cause cause;
};

// "Head::run was not answered: " and the first cause.
Error undeliverable(std::string_view method, std::string_view name, const Exit& cause);
// Whoever waited was told to stop: interrupted, with the cause.
Error interrupted_by(const Exit& cause);
// "0.25 s"
std::string seconds_text(std::chrono::nanoseconds duration);

}  // namespace troupe::actor
