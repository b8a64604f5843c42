// Links between nodes. A node is one process's actors (in a simulation, one simulated process's). Backends:
// inproc (moves the object), tcp, ucx; the simulator adds its own, which loses and delays on purpose. One
// conformance suite holds for all (tests/unit/net/transport_conformance.h).
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor/event_loop.h"
#include "runtime/base/result.h"
#include "runtime/wire/body.h"
#include "runtime/wire/header.h"

namespace troupe::net {

using wire::Body;

// A message's content as an object: turned into bytes only by a backend that must.
class Payload {
 public:
  virtual ~Payload() = default;
  virtual Body encode() const = 0;
};

// Either an object (always when sent; received from inproc) or its bytes (received from elsewhere).
struct Parcel {
  wire::Header header;
  std::unique_ptr<Payload> payload;  // null: see body
  Body body;
};

// Who is at the other end, as the handshake proved it.
struct Peer {
  uint64_t node = 0;  // unique for each start of a process: a restarted one is another node
  std::string name;   // "head", "trainer-3"
  std::string host;
  int64_t pid = 0;
  uint64_t generation = 0;
};

struct LinkOptions {
  // Both nodes give signs of life as often as the one that wants them more often; zero, for both: never. Neither cuts
  // the link before two of them are missing.
  std::chrono::milliseconds heartbeat_every{200};
  std::chrono::milliseconds silence_limit{5'000};  // nothing heard for so long: the link is cut
  std::chrono::milliseconds connect_deadline{5'000};
  std::chrono::milliseconds handshake_deadline{5'000};
  // What the peer may have sent that was not released here: messages, and bytes of their bodies with buffers, which
  // the last message may exceed. So both ends of a link together never hold more for a slow receiver. The smaller
  // one of both nodes' options counts.
  int64_t window = 1024;
  int64_t window_bytes = int64_t{64} << 20;
  // Of a body without its buffers; a larger one closes the link. At most 4 GiB - 1, which is all that a frame can say.
  int64_t max_frame_bytes = int64_t{16} << 20;
  int64_t max_buffer_bytes = int64_t{16} << 30;  // of all buffers of a body
};

// Of one link, both directions.
struct LinkCounters {
  int64_t sent = 0;  // frames, the link's own included
  int64_t received = 0;
  int64_t sent_bytes = 0;  // of bodies with their buffers
  int64_t received_bytes = 0;
  int64_t dropped_stale = 0;  // parcels of an older generation
  int64_t most_held = 0;      // the most messages that were received and not yet released
  int64_t most_held_bytes = 0;
  int64_t most_queued_bytes = 0;  // the most that waited here for the connection
};

struct LinkEvents {
  std::function<void(Parcel)> on_parcel;
  std::function<void()> on_room;
  // The first cause: "connection refused", "no sign of life for 5.0 s", what the peer said when it closed. Once;
  // nothing follows.
  std::function<void(Error)> on_closed;
};

// One end of an authenticated link. Parcels arrive in the order they were sent, at most once; those under way when
// a link ends are lost. Loop thread only.
class Link {
 public:
  virtual ~Link() = default;  // closes
  virtual const Peer& peer() const = 0;
  // REQUIRES: once, before anything else. What arrived earlier was kept.
  virtual void start(LinkEvents events) = 0;
  // Encodes the content, where this link carries bytes. Errors: it cannot be sent, being too large or throwing as it
  // is encoded. send() does the same, and there it is the end of the link.
  virtual Status prepare(Parcel& parcel) = 0;
  // Whether a message would be taken now. False: on_room follows.
  virtual bool has_room() = 0;
  // False, and the parcel untouched, where the window is full: on_room follows. System parcels always go, and ahead
  // of messages that wait. After the link has closed, true: it is dropped, and on_closed has said or will say why.
  virtual bool send(Parcel& parcel) = 0;
  // The receiver has taken `count` parcels from on_parcel into a mailbox that has room again: the peer may send more.
  // Parcels of the kinds message, reply and error count, in the order they came; system parcels do not.
  virtual void release(int64_t count) = 0;
  // Sends what is queued (for at most a second), then the reason. on_closed does not follow; `drained` does, on the
  // loop, once the other side has taken everything or will not. Destroying an open link closes it, too. Both may be
  // done inside the link's own callbacks.
  virtual void close(const Error& reason, std::function<void()> drained = {}) = 0;
  virtual const LinkCounters& counters() const = 0;
};

// A node's way to other nodes. Loop thread only; its links may outlive it, but not the loop.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;  // "tcp"
  // The address with a number for a name, as listen() takes it. Blocks for as long as names take; any thread but a
  // loop's. Errors: there is no such name.
  virtual Result<std::string> resolve(const std::string& address) const { return address; }
  // Accepts links until the transport is destroyed; returns the address that others give to connect(). Binds to
  // loopback unless `address` says otherwise ("number:port"; port 0: any free one).
  virtual Result<std::string> listen(const std::string& address,
                                     std::function<void(std::unique_ptr<Link>)> accepted) = 0;
  virtual void connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) = 0;
  // Why callers were not let in, and from where; for a log.
  virtual void on_refused(std::function<void(const Error&)> refused) {}
};

}  // namespace troupe::net
