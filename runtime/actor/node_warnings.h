// What goes wrong in a node and is nobody's answer: an actor without parent that failed, a message that was dropped, a
// caller that was refused. A line for each, with what, where and why; a peer that makes many is cut short.
#pragma once
#include <functional>
#include <string>

#include "runtime/actor/node.h"
#include "runtime/base/line_limit.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

class NodeWarnings {
 public:
  // Any thread.
  using Say = std::function<void(const std::string& line)>;

  // Outlives the nodes and transports that it hears of; so does the clock.
  NodeWarnings(const Clock& clock, Say say) : clock_(clock), say_(std::move(say)) {}
  NodeWarnings(const NodeWarnings&) = delete;
  NodeWarnings& operator=(const NodeWarnings&) = delete;

  // For a node that is to be made.
  void hear(NodeOptions& options);
  void hear(net::Transport& transport);

 private:
  void pass(LineLimit& limit, std::string line);

  const Clock& clock_;
  const Say say_;
  LineLimit failures_, dropped_, refused_;
};

}  // namespace troupe::actor
