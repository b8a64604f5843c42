// What can be chosen about an actor when it is spawned.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace troupe::actor {

// What an actor does when a child of its own fails (a child that was asked to stop, or stopped itself, has not
// failed). Armstrong 2003, section 5; the words are OTP's.
enum class Strategy : uint8_t {
  escalate,     // fails with the child's cause
  one_for_one,  // starts that child again
  one_for_all,  // stops the others in reverse order, then starts all again in their order
  ignore,       // nothing; watch the child to know
};

struct Supervision {
  Strategy strategy = Strategy::escalate;
  // More restarts than this within the window: the supervisor fails with the first cause of the window.
  int max_restarts = 3;
  std::chrono::nanoseconds window = std::chrono::seconds(60);
};

struct SpawnOptions {
  std::string name = {};   // of the actor, unique among its siblings; "" takes the type's
  int loop = -1;           // which of the node's loops it lives on; -1: its parent's, or the first
  int mailbox = 1024;      // messages of its own thread that wait at most; as many again of others
  bool reentrant = false;  // true: the next message starts while handlers wait, `mailbox` of them at most
  Supervision supervision = {};
  // Found by Node::lookup and from linked nodes under this name, which a restarted actor takes over; "": not.
  std::string registered = {};
};

}  // namespace troupe::actor
