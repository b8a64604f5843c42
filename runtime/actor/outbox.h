// What goes over a link, in the order in which it was sent: now, or when the link has room. Messages that share their
// arguments are held until something else is sent, and go as one frame; so do answers to such messages. System parcels
// do not come here: they wait for nothing. Loop thread only.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "runtime/net/transport.h"

namespace troupe::actor {

class SharedArguments;

class Outbox {
 public:
  explicit Outbox(net::Link& link) : link_(link) {}

  // False: on_room follows.
  bool has_room() { return waiting_.empty() && link_.has_room(); }
  void send(net::Parcel parcel);
  // Holds a message for others with the same arguments; or, where they are null, an answer for others. True: it is the
  // first, and flush() is to be called soon. REQUIRES: the link has prepared it.
  bool hold(net::Parcel parcel, std::shared_ptr<const SharedArguments> arguments);
  // Sends what is held.
  void flush();
  void on_room();
  // What has not gone will not.
  void clear();
  bool empty() const { return held_.empty() && waiting_.empty(); }

 private:
  void push(net::Parcel parcel);

  net::Link& link_;
  std::vector<net::Parcel> held_;
  std::shared_ptr<const SharedArguments> arguments_;  // of those
  // For room on the link. Bounded: messages look for room before they are sent, and a peer has not asked more than it
  // may.
  std::deque<net::Parcel> waiting_;
};

}  // namespace troupe::actor
