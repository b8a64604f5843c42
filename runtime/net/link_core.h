// What every link keeps account of, whatever carries its frames: sequence numbers, credits, heartbeats, generations,
// priorities and closing. No input or output, no clock of its own: a function of what it is told.
//
// A frame goes out as late as possible (next() is called when the connection takes it), so that system parcels pass
// those that wait. Credits: of messages, replies and errors, no more than the window are sent and not yet released
// by the receiver; the receiver holds a peer to that.
#pragma once
#include <deque>
#include <optional>

#include "runtime/net/transport.h"
#include "runtime/wire/frame.h"

namespace troupe::net {

class LinkCore {
 public:
  using Time = std::chrono::nanoseconds;

  // A heartbeat_every of zero: none are sent or expected.
  LinkCore(const LinkOptions& options, Peer peer, Time now);

  const Peer& peer() const { return peer_; }
  const LinkOptions& options() const { return options_; }
  const LinkCounters& counters() const { return counters_; }

  // --- Sending.

  // Whether a parcel of this kind may be queued. False: took_room() will once say true.
  bool has_room(wire::FrameKind kind);
  // REQUIRES: has_room(). A payload still to be encoded counts as no bytes. `generation` is the sender's.
  void push(Parcel parcel, uint64_t generation, Time now);
  bool has_output() const;
  // The next parcel to transmit, with its sequence number. REQUIRES: has_output().
  Parcel next(Time now);
  // A sender that was refused may try again; once each time.
  bool took_room();

  // --- Receiving.

  enum class Verdict { deliver, nothing };
  // Judges the next frame of the peer. Errors: the link is over; what the peer said when it closed, or what it did
  // wrong.
  Result<Verdict> receive(const Parcel& parcel, uint64_t generation);
  // Bytes arrived, if only part of a frame.
  void heard(Time now) { heard_at_ = now; }
  // REQUIRES: no more than were delivered and not yet released.
  void release(int64_t count);

  // --- Time and end.

  // Call every heartbeat_every, even if later than that. Errors: the peer is silent for too long. A caller that was
  // itself kept from calling (a process that was stopped) first listens for a while longer.
  Status tick(Time now);
  // What is queued still goes; after it, the reason.
  void close(const Error& reason);
  bool closing() const { return closing_.has_value(); }
  // The reason has been handed out by next().
  bool said_goodbye() const { return said_goodbye_; }

 private:
  struct Queued {
    Parcel parcel;
    Time since;
  };
  Parcel own_frame(wire::FrameKind kind) const;
  Result<Verdict> take_credit(const wire::Header& header);

  const LinkOptions options_;
  const Peer peer_;
  LinkCounters counters_;

  std::deque<Queued> system_;
  std::deque<Queued> messages_;
  int64_t queued_bytes_ = 0;
  int64_t under_way_ = 0;  // messages queued or sent, for which no credit came back
  int64_t under_way_bytes_ = 0;
  bool refused_ = false;
  uint64_t sent_sequence_ = 0;
  Time sent_at_;
  bool heartbeat_due_ = false;

  std::deque<int64_t> held_;  // bytes of each message delivered and not released
  int64_t held_bytes_ = 0;
  int64_t owed_ = 0;  // credit that the peer was not told of
  int64_t owed_bytes_ = 0;
  bool credit_due_ = false;
  uint64_t received_sequence_ = 0;
  Time heard_at_;
  Time ticked_at_;

  std::optional<Error> closing_;
  bool said_goodbye_ = false;
};

}  // namespace troupe::net
