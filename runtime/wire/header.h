// What stands before every message between two nodes: who is meant, what is asked, and whether it still counts.
// wire/frame.h has its bytes.
#pragma once
#include <cstdint>

namespace troupe::wire {

enum class FrameKind : uint8_t {
  message = 1,    // to an actor: a tell, or an ask if `ask` is not 0
  reply = 2,      // the answer to `ask`
  error = 3,      // the answer to `ask` is an Error, or a message could not be delivered: the first cause
  system = 4,     // between nodes: monitors, exits, names; not held back by credits
  credit = 5,     // a link's own: messages that the peer may send from now on
  heartbeat = 6,  // a link's own
  close = 7,      // a link's own: the last frame, with the reason
};

struct Header {
  FrameKind kind = FrameKind::message;
  uint16_t method = 0;       // number in the actor's protocol, or of the system message
  uint64_t destination = 0;  // actor on the receiving node: index and incarnation
  uint64_t source = 0;       // actor on the sending node; 0: none
  uint64_t ask = 0;          // number of the question on the asking node; 0: a tell
  uint64_t sequence = 0;     // set by the link: consecutive for each direction, from 1
  uint64_t generation = 0;   // of the sender; a link drops frames of an older one
  uint64_t trace = 0;        // joins a message and what it caused in a trace; 0: none
  int64_t time_left_ns = 0;  // until the deadline, when it was sent (clocks of hosts differ); 0: no deadline
};

}  // namespace troupe::wire
