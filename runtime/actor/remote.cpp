#include "runtime/actor/remote.h"

#include <algorithm>

#include "runtime/actor/bundle.h"
#include "runtime/actor/node.h"
#include "runtime/actor/remote_actor.h"

namespace troupe::actor {
namespace {

using wire::FrameKind;

// How long what waits here may take to go before a link is closed.
constexpr std::chrono::seconds kDrainLimit{1};

// Marks what says that a message has left its mailbox among the answers to questions.
constexpr uint64_t kLeft = uint64_t{1} << 63;

// An answer that came over a link, on its way to who asked.
class RemoteReply final : public Message {
 public:
  explicit RemoteReply(net::Parcel parcel) : Message(kInfo), parcel_(std::move(parcel)) {}
  bool begin(Actor&, Cell&) override { return true; }
  void fail(const Error& error) override {
    parcel_.header.kind = FrameKind::error;
    parcel_.body = encode_error(error);
  }
  net::Parcel* parcel() override { return &parcel_; }
  net::Body encode() const override { return {}; }

 private:
  static constexpr MethodInfo kInfo{"reply", kLocalMethod};
  net::Parcel parcel_;
};

void answer_with(Asker& asker, uint64_t number, const Error& error) {
  auto reply = std::make_unique<RemoteReply>(net::Parcel());
  reply->asker = &asker;
  reply->ask = number;
  reply->fail(error);
  asker.answer(std::move(reply));
}

}  // namespace

RemoteNode::RemoteNode(Handle<Executor> home, std::unique_ptr<net::Link> link)
    : home_(std::move(home)), link_(std::move(link)), outbox_(*link_), peer_(link_->peer()) {}

void RemoteNode::start() {
  // The link belongs to this node; its callbacks hold the node while they run.
  link_->start({.on_parcel = [this](net::Parcel parcel) { on_parcel(std::move(parcel)); },
                .on_room = [this] { on_room(); },
                .on_closed = [this](const Error& reason) { on_closed(reason); }});
}

void RemoteNode::on_loop(std::function<void()> job) {
  if (home_->loop().runs_here()) return job();
  home_->loop().post([self = Handle<RemoteNode>(this), job = std::move(job)] { job(); });
}

bool RemoteNode::has_room(RemoteActor& to) {
  if (link_ == nullptr) return false;
  if (outbox_.has_room()) return true;
  if (!std::exchange(to.in_line_, true)) in_line_.emplace_back(&to);
  return false;
}

void RemoteNode::transmit(RemoteActor& to, std::unique_ptr<Message> message) {
  const MethodInfo& method = message->method();
  const Handle<Asker> asker = std::move(message->asker);
  const uint64_t number = message->ask;
  net::Parcel parcel;
  parcel.header.method = method.number;
  parcel.header.destination = to.id();
  parcel.header.trace = message->scope.trace;
  if (message->scope.deadline != kNever) {
    parcel.header.time_left_ns = std::max<int64_t>((message->scope.deadline - home_->now()).count(), 1);
  }
  auto shared = message->shared();
  parcel.payload = std::move(message);
  if (Status prepared = link_->prepare(parcel); !prepared.ok()) {
    Error error = std::move(prepared).error().within(fmt::format("{} to {}", method.name, to.name()));
    return asker != nullptr ? answer_with(*asker, number, error) : dropped(error);
  }
  if (asker != nullptr) {
    parcel.header.ask = next_++;
    asked_by_[{asker.get(), number}] = parcel.header.ask;
    asked_[parcel.header.ask] = {asker, number, &to, &method};
  }
  to.sent(parcel.body.bytes());
  if (shared == nullptr) outbox_.send(std::move(parcel));
  else hold(std::move(parcel), std::move(shared));
}

void RemoteNode::hold(net::Parcel parcel, std::shared_ptr<const SharedArguments> arguments) {
  if (!outbox_.hold(std::move(parcel), std::move(arguments))) return;
  home_->loop().post([self = Handle<RemoteNode>(this)] {
    if (self->link_ != nullptr) self->outbox_.flush();
  });
}

void RemoteNode::on_room() {
  const Handle<RemoteNode> alive(this);
  outbox_.on_room();
  for (auto line = std::exchange(in_line_, {}); !line.empty(); line.pop_front()) {
    line.front()->in_line_ = false;
    line.front()->pump();
  }
  end_draining();
}

void RemoteNode::on_parcel(net::Parcel parcel) {
  const Handle<RemoteNode> alive(this);
  // The link's window is for what is on its way; actors have windows of their own.
  if (parcel.header.kind != FrameKind::system) link_->release(1);
  if (is_bundle(parcel.header)) return on_bundle(std::move(parcel));
  switch (parcel.header.kind) {
    case FrameKind::message: return on_message(parcel, false);
    case FrameKind::reply:
    case FrameKind::error: return on_answer(std::move(parcel));
    case FrameKind::system: return on_system(parcel);
    default: return malformed("a frame of the link's own");
  }
}

Result<std::unique_ptr<Message>> RemoteNode::message_of(net::Parcel& parcel, const Cell& cell) const {
  const ProtocolTable protocol = cell.protocol();
  const uint16_t number = parcel.header.method;
  if (number >= protocol.size()) return failed("{} has no method {} in its Protocol", cell.name(), number);
  const ProtocolEntry& entry = protocol[number];
  if (parcel.payload == nullptr) return entry.decode(parcel.body);
  auto* message = dynamic_cast<Message*>(parcel.payload.get());
  if (message == nullptr || &message->method() != entry.method) {
    return failed("{} is not asked {} as its Protocol has it", cell.name(), number);
  }
  if (message->shared() != nullptr) return message->unshared();
  parcel.payload.release();
  return std::unique_ptr<Message>(message);
}

void RemoteNode::on_bundle(net::Parcel parcel) {
  const bool messages = parcel.header.kind == FrameKind::message;
  const Status unpacked = unpack_bundle(std::move(parcel), [&](net::Parcel& one) {
    if (lost()) return;
    if (messages) on_message(one, true);
    else on_answer(std::move(one));
  });
  if (!unpacked.ok()) malformed(unpacked.error().message());
}

void RemoteNode::on_message(net::Parcel& parcel, bool bundled) {
  const uint64_t ask = parcel.header.ask;
  const Share share{parcel.header.destination, 1, parcel.body.bytes()};
  Node* node = home_->node();
  if (node == nullptr) return;
  last_ask_ = std::max(last_ask_, ask);
  const bool cancelled = cancelled_.erase(ask) > 0;
  // Questions come in the order of their numbers.
  cancelled_.erase(cancelled_.begin(), cancelled_.upper_bound(last_ask_));
  if (cancelled) return give_back(share);
  const Handle<Cell> cell = node->find(share.actor);
  if (cell == nullptr) {
    const Cause cause = node->epitaph(share.actor);
    tell_gone(share.actor);
    if (ask != 0) send_error(ask, failed("the message was not delivered: {}", cause->message()), bundled);
    return;
  }
  auto made = message_of(parcel, *cell);
  if (!made.ok()) {
    give_back(share);
    return ask == 0 ? dropped(made.error()) : send_error(ask, made.error(), bundled);
  }
  std::unique_ptr<Message> message = std::move(made).value();
  message->scope.deadline =
      parcel.header.time_left_ns > 0 ? deadline_after(home_->now(), Time(parcel.header.time_left_ns)) : kNever;
  message->scope.trace = parcel.header.trace;
  message->priority = message->foreign = message->answered = message->waits = false;
  message->asker = nullptr;
  message->ask = ask;
  if (ask != 0) {
    message->asker = this;
    answering_[ask] = {cell, bundled};
  }
  // Its credit goes back when its handler begins.
  message->sender = this;
  message->room = kLeft | ++entered_;
  inside_[message->room] = share;
  if (cell->send(message, cell->executor_here()) == Sent::yes) return;
  cell->refuse(std::move(message));
}

void RemoteNode::answer(std::unique_ptr<Message> answered) {
  answered->answered = true;
  if (lost()) return;
  if (home_->loop().runs_here()) return deliver(std::move(answered));
  answered->asker = this;
  home_->loop().post(*answered.release());
}

// A message of theirs has left its mailbox, or its answer is there.
void RemoteNode::deliver(std::unique_ptr<Message> answered) {
  const Handle<RemoteNode> alive(this);
  answered->asker = nullptr;
  if (link_ == nullptr) return;
  if ((answered->ask & kLeft) != 0) {
    if (const auto left = inside_.extract(answered->ask)) give_back(left.mapped());
    return;
  }
  const uint64_t ask = answered->ask;
  const auto answering = answering_.extract(ask);
  const bool bundled = answering && answering.mapped().bundled;
  if (const Error* error = answered->error()) return send_error(ask, *error, bundled);
  net::Parcel parcel;
  parcel.header = {.kind = FrameKind::reply, .ask = ask};
  parcel.payload = std::move(answered);
  if (Status prepared = link_->prepare(parcel); !prepared.ok()) return send_error(ask, prepared.error(), bundled);
  send_answer(std::move(parcel), bundled);
}

void RemoteNode::send_answer(net::Parcel parcel, bool bundled) {
  if (bundled) hold(std::move(parcel), nullptr);
  else outbox_.send(std::move(parcel));
}

void RemoteNode::send_error(uint64_t ask, const Error& error, bool bundled) {
  if (link_ == nullptr) return;
  net::Parcel parcel;
  parcel.header = {.kind = FrameKind::error, .ask = ask};
  parcel.body = encode_error(error);
  send_answer(std::move(parcel), bundled);
}

void RemoteNode::on_answer(net::Parcel parcel) {
  const auto found = asked_.find(parcel.header.ask);
  if (found == asked_.end()) return;  // given up
  const Asked asked = std::move(found->second);
  asked_.erase(found);
  asked_by_.erase({asked.asker.get(), asked.number});
  if (parcel.payload != nullptr) {
    auto* message = dynamic_cast<Message*>(parcel.payload.get());
    if (message == nullptr || &message->method() != asked.method) return malformed("an answer of another type");
    parcel.payload.release();
    message->asker = asked.asker;
    message->ask = asked.number;
    return asked.asker->answer(std::unique_ptr<Message>(message));
  }
  auto reply = std::make_unique<RemoteReply>(std::move(parcel));
  reply->asker = asked.asker;
  reply->ask = asked.number;
  asked.asker->answer(std::move(reply));
}

Handle<RemoteActor> RemoteNode::actor(ActorId id, const std::string& name) {
  const std::lock_guard lock(actors_mutex_);
  if (lost()) return new RemoteActor(this, id, name);
  if (actors_.size() >= most_actors_) {
    std::erase_if(actors_, [](const auto& known) { return known.second->unique() && known.second->idle(); });
    most_actors_ = std::max<size_t>(2 * actors_.size(), 64);
  }
  Handle<RemoteActor>& actor = actors_[id];
  if (actor == nullptr) actor = new RemoteActor(this, id, name);
  return actor;
}

void RemoteNode::malformed(std::string_view what) {
  const Error error = failed("node {} sent what it may not: {}", peer_.name, what);
  if (link_ != nullptr) link_->close(error);
  on_closed(error);
}

void RemoteNode::dropped(const Error& why) {
  const Node* node = home_->node();
  if (node != nullptr && node->options().on_dropped) node->options().on_dropped(why);
}

void RemoteNode::close(const Error& reason) {
  if (link_ != nullptr) link_->close(reason, std::exchange(drained_, nullptr));
  on_closed(reason);
}

void RemoteNode::drain(const Error& reason, std::function<void()> done) {
  const Handle<RemoteNode> alive(this);
  if (link_ == nullptr || draining_) return;  // `done` goes with whoever holds it
  draining_ = reason;
  drained_ = std::move(done);
  drain_timer_ = home_->loop().after(kDrainLimit, [this] { close(*draining_); });
  end_draining();
}

void RemoteNode::end_draining() {
  if (!draining_ || waiting_ > 0 || link_ == nullptr) return;
  outbox_.flush();
  if (outbox_.empty()) close(Error(*draining_));
}

// Everything that waits for something of that node learns why it will not come.
void RemoteNode::on_closed(const Error& reason) {
  const Handle<RemoteNode> alive(this);
  if (lost()) return;
  std::string where = peer_.host.empty() ? "" : fmt::format("host {}", peer_.host);
  if (peer_.pid != 0) where += fmt::format("{}pid {}", where.empty() ? "" : ", ", peer_.pid);
  cause_ = std::make_shared<const Exit>(
      Exit{Exit::Kind::lost, fmt::format("node {}", peer_.name), std::move(where), reason.message()});
  lost_.store(true, std::memory_order_release);
  const auto link = std::move(link_);
  drain_timer_.cancel();
  drained_ = nullptr;
  in_line_.clear();
  std::unordered_map<ActorId, Handle<RemoteActor>> actors;
  {
    const std::lock_guard lock(actors_mutex_);
    actors.swap(actors_);
  }
  for (auto& [id, actor] : actors) actor->refuse_all();
  for (auto& [number, asked] : std::exchange(asked_, {})) {
    answer_with(*asked.asker, asked.number, undeliverable(asked.method->name, asked.of->name(), *cause_));
  }
  asked_by_.clear();
  outbox_.clear();
  for (auto& [ask, answering] : std::exchange(answering_, {})) {
    answering.cell->forget(*this, ask, answering.cell->executor_here());
  }
  for (auto& [number, watched] : std::exchange(watched_, {})) {
    watched.told({peer_.node, watched.whom->id(), watched.whom->name(), cause_});
  }
  for (auto& [number, watched] : std::exchange(watched_here_, {})) watched.cell->unwatch(watched.key.get());
  for (auto& [number, found] : std::exchange(lookups_, {})) found(failed("{}", cause_->message()));
  if (Node* node = home_->node()) node->link_lost(*this);
}

}  // namespace troupe::actor
