#include "runtime/net/link_core.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/wire/bytes.h"

namespace troupe::net {
namespace {

using wire::FrameKind;

constexpr size_t kMostReasonBytes = 4096;

bool needs_credit(FrameKind kind) {
  return kind == FrameKind::message || kind == FrameKind::reply || kind == FrameKind::error;
}

bool is_own(FrameKind kind) {
  return kind == FrameKind::credit || kind == FrameKind::heartbeat || kind == FrameKind::close;
}

ErrorKind error_kind(uint16_t number) {
  for (const ErrorKind kind : {ErrorKind::usage, ErrorKind::environment, ErrorKind::damaged, ErrorKind::interrupted}) {
    if (static_cast<uint16_t>(kind) == number) return kind;
  }
  return ErrorKind::failed;
}

}  // namespace

LinkCore::LinkCore(const LinkOptions& options, Peer peer, Time now)
    : options_(options), peer_(std::move(peer)), sent_at_(now), heard_at_(now), ticked_at_(now) {
  TROUPE_CHECK(options.window > 0 && options.window_bytes > 0, "a link's window is empty");
}

bool LinkCore::has_room(FrameKind kind) {
  if (!needs_credit(kind)) return true;
  if (under_way_ < options_.window && under_way_bytes_ < options_.window_bytes) return true;
  refused_ = true;
  return false;
}

void LinkCore::push(Parcel parcel, uint64_t generation, Time now) {
  parcel.header.generation = generation;
  const FrameKind kind = parcel.header.kind;
  TROUPE_CHECK(!is_own(kind), "frames of kind {} are the link's own", static_cast<int>(kind));
  const int64_t bytes = parcel.body.bytes();
  queued_bytes_ += bytes;
  counters_.most_queued_bytes = std::max(counters_.most_queued_bytes, queued_bytes_);
  if (needs_credit(kind)) {
    ++under_way_;
    under_way_bytes_ += bytes;
    messages_.push_back({std::move(parcel), now});
  } else {
    system_.push_back({std::move(parcel), now});
  }
}

bool LinkCore::has_output() const {
  if (said_goodbye_) return false;
  return credit_due_ || heartbeat_due_ || closing() || !system_.empty() || !messages_.empty();
}

Parcel LinkCore::own_frame(FrameKind kind) const {
  Parcel parcel;
  parcel.header.kind = kind;
  return parcel;
}

Parcel LinkCore::next(Time now) {
  TROUPE_CHECK(has_output());
  Parcel parcel;
  if (credit_due_) {
    parcel = own_frame(FrameKind::credit);
    parcel.header.destination = static_cast<uint64_t>(owed_);
    parcel.header.source = static_cast<uint64_t>(owed_bytes_);
    owed_ = owed_bytes_ = 0;
    credit_due_ = false;
  } else if (!system_.empty() || !messages_.empty()) {
    std::deque<Queued>& queue = system_.empty() ? messages_ : system_;
    parcel = std::move(queue.front().parcel);
    if (int64_t& left = parcel.header.time_left_ns; left > 0) {
      left = std::max<int64_t>(left - (now - queue.front().since).count(), 1);
    }
    queue.pop_front();
    queued_bytes_ -= parcel.body.bytes();
  } else if (heartbeat_due_) {
    parcel = own_frame(FrameKind::heartbeat);
  } else {
    parcel = own_frame(FrameKind::close);
    parcel.header.method = static_cast<uint16_t>(closing_->kind());
    wire::append(parcel.body.words, wire::bytes_of(std::string_view(closing_->message()).substr(0, kMostReasonBytes)));
    said_goodbye_ = true;
  }
  heartbeat_due_ = false;  // anything is a sign of life
  parcel.header.sequence = ++sent_sequence_;
  sent_at_ = now;
  ++counters_.sent;
  counters_.sent_bytes += parcel.body.bytes();
  return parcel;
}

bool LinkCore::took_room() {
  if (!refused_ || under_way_ >= options_.window || under_way_bytes_ >= options_.window_bytes) return false;
  refused_ = false;
  return true;
}

Result<LinkCore::Verdict> LinkCore::take_credit(const wire::Header& header) {
  // The sums are ours: what comes from outside is only compared.
  if (header.destination > static_cast<uint64_t>(under_way_) ||
      header.source > static_cast<uint64_t>(under_way_bytes_)) {
    return failed("{} gives credit for more than was sent", peer_.name);
  }
  under_way_ -= static_cast<int64_t>(header.destination);
  under_way_bytes_ -= static_cast<int64_t>(header.source);
  return Verdict::nothing;
}

Result<LinkCore::Verdict> LinkCore::receive(const Parcel& parcel, uint64_t generation) {
  const wire::Header& header = parcel.header;
  if (header.sequence != received_sequence_ + 1) {
    return failed("frame {} of {} came where {} was due", header.sequence, peer_.name, received_sequence_ + 1);
  }
  ++received_sequence_;
  const int64_t bytes = parcel.body.bytes();
  ++counters_.received;
  counters_.received_bytes += bytes;
  switch (header.kind) {
    case FrameKind::credit: return take_credit(header);
    case FrameKind::heartbeat: return Verdict::nothing;
    case FrameKind::close: return Error(error_kind(header.method), std::string(wire::text_of(parcel.body.words)));
    default: break;
  }
  if (needs_credit(header.kind)) {
    if (static_cast<int64_t>(held_.size()) >= options_.window || held_bytes_ >= options_.window_bytes) {
      return failed("{} sent more than its window of {} messages and {} bytes", peer_.name, options_.window,
                    options_.window_bytes);
    }
    held_.push_back(bytes);
    held_bytes_ += bytes;
    counters_.most_held = std::max(counters_.most_held, static_cast<int64_t>(held_.size()));
    counters_.most_held_bytes = std::max(counters_.most_held_bytes, held_bytes_);
  }
  if (header.generation < generation) {
    ++counters_.dropped_stale;
    if (needs_credit(header.kind)) release(1);
    return Verdict::nothing;
  }
  return Verdict::deliver;
}

void LinkCore::release(int64_t count) {
  TROUPE_CHECK(count >= 0 && count <= static_cast<int64_t>(held_.size()), "{} messages released of {}", count,
               held_.size());
  for (int64_t i = 0; i < count; ++i) {
    ++owed_;
    owed_bytes_ += held_.front();
    held_bytes_ -= held_.front();
    held_.pop_front();
  }
  // Seldom enough to cost little, often enough that the sender need not wait for it.
  if (owed_ >= std::max<int64_t>(options_.window / 4, 1) || owed_bytes_ >= options_.window_bytes / 4) {
    credit_due_ = owed_ > 0;
  }
}

Status LinkCore::tick(Time now) {
  const Time every = options_.heartbeat_every;
  if (every <= Time(0)) return {};
  const Time late = now - ticked_at_ - every;
  if (late > every) heard_at_ += late;
  ticked_at_ = now;
  if (now - heard_at_ >= options_.silence_limit) {
    return failed("no sign of life from {} for {:.1f} s", peer_.name,
                  std::chrono::duration<double>(options_.silence_limit).count());
  }
  if (owed_ > 0) credit_due_ = true;
  // Half a period of grace: two timers of the same length never agree.
  if (now - sent_at_ >= every / 2) heartbeat_due_ = true;
  return {};
}

void LinkCore::close(const Error& reason) {
  if (!closing_) closing_ = reason;
}

}  // namespace troupe::net
