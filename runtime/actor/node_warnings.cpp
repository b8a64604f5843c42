#include "runtime/actor/node_warnings.h"

namespace troupe::actor {

void NodeWarnings::hear(NodeOptions& options) {
  options.on_failure = [this](const Down& down) { pass(failures_, down.cause->message()); };
  options.on_dropped = [this](const Error& why) {
    pass(dropped_, fmt::format("a message between nodes was dropped: {}", why.message()));
  };
}

void NodeWarnings::hear(net::Transport& transport) {
  transport.on_refused(
      [this](const Error& why) { pass(refused_, fmt::format("a caller was refused: {}", why.message())); });
}

void NodeWarnings::pass(LineLimit& limit, std::string line) {
  if (const auto said = limit.pass(clock_.now(), std::move(line))) say_(*said);
}

}  // namespace troupe::actor
