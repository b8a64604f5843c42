#include "runtime/net/link_state.h"

#include "runtime/base/check.h"

namespace troupe::net {
namespace {

constexpr std::chrono::seconds kDrainLimit{1};

}  // namespace

LinkState::LinkState(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options)
    : loop_(loop), node_(node), core_(options, std::move(peer), loop.clock().now()) {}

Status LinkState::encode(Parcel& parcel) {
  if (!parcel.payload) return {};
  try {
    parcel.body = parcel.payload->encode();
  } catch (const std::exception& e) {
    return failed("it cannot be encoded: {}", e.what());
  } catch (...) {
    return failed("it cannot be encoded");
  }
  parcel.payload.reset();
  return {};
}

Status LinkState::prepare(Parcel& parcel) {
  TROUPE_TRY(encode(parcel));
  return wire::check_frame(parcel.body, {core_.options().max_frame_bytes, core_.options().max_buffer_bytes});
}

void LinkState::start(LinkEvents events) {
  TROUPE_CHECK(!events_ && phase_ != Phase::closing, "a link is started once, before anything else");
  events_ = std::make_shared<LinkEvents>(std::move(events));
  if (lost_early_) {
    loop_.post([self = shared_from_this()] {
      const auto kept = std::exchange(self->events_, nullptr);
      if (kept && kept->on_closed) kept->on_closed(*self->lost_early_);
    });
    return;
  }
  phase_ = Phase::open;
  core_.tick(now()).ok();  // the peer's silence counts from here
  core_.heard(now());
  tick();
  open();
}

bool LinkState::has_room() { return phase_ != Phase::open || core_.has_room(wire::FrameKind::message); }

bool LinkState::send(Parcel& parcel) {
  TROUPE_CHECK(phase_ != Phase::waiting || lost_early_, "a link is started before anything is sent");
  if (phase_ != Phase::open) {
    parcel = Parcel();
    return true;
  }
  if (!core_.has_room(parcel.header.kind)) return false;
  if (Status prepared = prepare(parcel); !prepared.ok()) {
    Error cause = std::move(prepared).error().within(fmt::format("link to {}", peer().name));
    parcel = Parcel();
    // Never inside the caller's send().
    loop_.post([self = shared_from_this(), cause = std::move(cause)] {
      if (!self->is_open()) return;
      const auto kept = self->events_;
      self->close(cause);
      if (kept->on_closed) kept->on_closed(cause);
    });
    return true;
  }
  core_.push(std::move(parcel), node_.generation(), now());
  parcel = Parcel();
  schedule();
  return true;
}

void LinkState::release(int64_t count) {
  if (phase_ != Phase::open) return;
  core_.release(count);
  if (core_.has_output()) schedule();
}

void LinkState::close(const Error& reason, std::function<void()> drained) {
  if (phase_ == Phase::shut || phase_ == Phase::closing) {
    events_.reset();
    if (drained) loop_.post(std::move(drained));
    return;
  }
  drained_ = std::move(drained);
  phase_ = Phase::closing;
  events_.reset();
  core_.close(reason);
  timer_ = loop_.after(kDrainLimit, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->drained();
  });
  schedule();
}

void LinkState::schedule() {
  if (scheduled_ || phase_ == Phase::shut) return;
  scheduled_ = shared_from_this();
  loop_.post(*this);
}

void LinkState::run() noexcept {
  const auto self = std::exchange(scheduled_, nullptr);
  if (phase_ == Phase::shut) return;
  pump();
  if (phase_ == Phase::closing && core_.said_goodbye() && !std::exchange(finishing_, true)) finish();
}

void LinkState::tick() {
  if (core_.options().heartbeat_every <= std::chrono::milliseconds(0)) return;
  timer_ = loop_.after(core_.options().heartbeat_every, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || !self->is_open()) return;
    if (Status alive = self->core_.tick(self->now()); !alive.ok()) {
      self->lost(std::move(alive).error());
      return;
    }
    if (self->core_.has_output()) self->schedule();
    self->tick();
  });
}

bool LinkState::arrived(Parcel parcel) {
  if (phase_ == Phase::shut) return false;
  auto verdict = core_.receive(parcel, node_.generation());
  if (!verdict.ok()) {
    lost(std::move(verdict).error());
    return false;
  }
  if (core_.has_output()) schedule();
  if (phase_ != Phase::open) return true;  // closing: the peer's last words, thrown away
  const std::shared_ptr<LinkEvents> events = events_;
  if (core_.took_room() && events->on_room) events->on_room();
  if (phase_ == Phase::open && *verdict == LinkCore::Verdict::deliver) events->on_parcel(std::move(parcel));
  return phase_ != Phase::shut;
}

void LinkState::lost(Error cause) {
  if (phase_ == Phase::shut) return;
  if (phase_ == Phase::waiting) lost_early_ = cause;
  const std::shared_ptr<LinkEvents> events = std::exchange(events_, nullptr);
  const bool told = phase_ == Phase::open;
  end();
  if (told && events->on_closed) events->on_closed(std::move(cause));
}

void LinkState::drained() {
  if (phase_ != Phase::shut) end();
}

void LinkState::end() {
  const auto self = shared_from_this();
  phase_ = Phase::shut;
  timer_.cancel();
  shut();
  if (drained_) loop_.post(std::exchange(drained_, nullptr));
}

LinkHandle::~LinkHandle() { state_->close(failed("{} dropped the link", state_->own_name())); }

}  // namespace troupe::net
