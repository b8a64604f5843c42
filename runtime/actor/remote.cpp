#include "runtime/actor/remote.h"

#include <algorithm>

#include "runtime/actor/node.h"

namespace troupe::actor {
namespace {

using wire::FrameKind;

// Messages that wait here for a link that has no room.
constexpr int64_t kQueue = 1024;

// An answer that came over a link, on its way to who asked.
class RemoteReply final : public Message {
 public:
  explicit RemoteReply(net::Parcel parcel) : Message(kInfo), parcel_(std::move(parcel)) {}
  void begin(Actor&, Cell&) override {}
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

BytesWriter exit_bytes(const Exit& exit) {
  BytesWriter bytes;
  bytes.number(static_cast<uint64_t>(exit.kind)).text(exit.who).text(exit.where).text(exit.why);
  return bytes;
}

Cause read_exit(BytesReader& reader) {
  Exit exit;
  exit.kind = static_cast<Exit::Kind>(std::min<uint64_t>(reader.number(), 2));
  exit.who = reader.text();
  exit.where = reader.text();
  exit.why = reader.text();
  return std::make_shared<const Exit>(std::move(exit));
}

void answer_with(Asker& asker, uint64_t number, const Error& error) {
  auto reply = std::make_unique<RemoteReply>(net::Parcel());
  reply->asker = &asker;
  reply->ask = number;
  reply->fail(error);
  asker.answer(std::move(reply));
}

}  // namespace

RemoteNode::RemoteNode(Handle<Executor> home, std::unique_ptr<net::Link> link)
    : home_(std::move(home)), link_(std::move(link)), peer_(link_->peer()) {}

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

Sent RemoteNode::send(RemoteActor& to, std::unique_ptr<Message>& message, bool wait, const Executor* from) {
  if (message->method().number == kLocalMethod) return Sent::unfit;
  if (lost() || to.ended()) return Sent::dead;
  const bool bounded = message->asker == nullptr && !wait;
  if (queued_.fetch_add(1, std::memory_order_relaxed) >= kQueue && bounded) {
    queued_.fetch_sub(1, std::memory_order_relaxed);
    return Sent::full;
  }
  if (from == home_.get() || home_->loop().runs_here()) {
    transmit(to, std::move(message));
  } else {
    message->target = &to;
    home_->loop().post(*message.release());
  }
  return Sent::yes;
}

void RemoteNode::transmit(RemoteActor& to, std::unique_ptr<Message> message) {
  if (link_ == nullptr || to.ended()) {
    queued_.fetch_sub(1, std::memory_order_relaxed);
    const Error error = undeliverable(message->method().name, to.name(), *to.cause());
    if (message->sender != nullptr) notice_room(*message, error);
    if (message->asker == nullptr) return;
    message->fail(error);
    const Handle<Asker> asker = message->asker;
    return asker->answer(std::move(message));
  }
  if (message->sender != nullptr) {
    if (static_cast<int64_t>(outgoing_.size()) >= kQueue) return waiting_.push_back({&to, std::move(message)});
    notice_room(*message, {});
  }
  net::Parcel parcel;
  parcel.header.method = message->method().number;
  parcel.header.destination = to.id();
  parcel.header.trace = message->scope.trace;
  if (message->scope.deadline != kNever) {
    parcel.header.time_left_ns = std::max<int64_t>((message->scope.deadline - home_->now()).count(), 1);
  }
  if (message->asker != nullptr) {
    parcel.header.ask = next_++;
    asked_by_[{message->asker.get(), message->ask}] = parcel.header.ask;
    asked_[parcel.header.ask] = {std::move(message->asker), message->ask, &to, &message->method()};
  }
  parcel.payload = std::move(message);
  if (outgoing_.empty() && link_->send(parcel)) queued_.fetch_sub(1, std::memory_order_relaxed);
  else outgoing_.push_back(std::move(parcel));
}

void RemoteNode::on_room() {
  const Handle<RemoteNode> alive(this);
  while (link_ != nullptr && !outgoing_.empty() && link_->send(outgoing_.front())) {
    outgoing_.pop_front();
    queued_.fetch_sub(1, std::memory_order_relaxed);
  }
  while (link_ != nullptr && !waiting_.empty() && static_cast<int64_t>(outgoing_.size()) < kQueue) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    transmit(*next.to, std::move(next.message));
  }
}

void RemoteNode::on_parcel(net::Parcel parcel) {
  const Handle<RemoteNode> alive(this);
  switch (parcel.header.kind) {
    case FrameKind::message: return on_message(std::move(parcel));
    case FrameKind::reply:
    case FrameKind::error: link_->release(1); return on_answer(std::move(parcel));
    case FrameKind::system: {
      const auto what = static_cast<System>(parcel.header.method);
      if (what != System::reply && what != System::error) return on_system(parcel);
      parcel.header.kind = what == System::reply ? FrameKind::reply : FrameKind::error;
      return on_answer(std::move(parcel));
    }
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
  parcel.payload.release();
  return std::unique_ptr<Message>(message);
}

void RemoteNode::on_message(net::Parcel parcel) {
  const uint64_t ask = parcel.header.ask;
  Node* node = home_->node();
  const Handle<Cell> cell = node == nullptr ? nullptr : node->find(parcel.header.destination);
  if (cell == nullptr) {
    link_->release(1);
    if (node == nullptr) return;
    if (ask == 0) return tell_gone(parcel.header.destination);
    const Cause cause = node->epitaph(parcel.header.destination);
    parcel.payload.reset();
    parcel.header = {.kind = FrameKind::error, .ask = ask};
    parcel.body = encode_error(failed("the message was not delivered: {}", cause->message()));
    return send_answer(std::move(parcel));
  }
  auto made = message_of(parcel, *cell);
  if (!made.ok()) {
    link_->release(1);
    if (ask == 0) return malformed(made.error().message());
    net::Parcel refusal;
    refusal.header = {.kind = FrameKind::error, .ask = ask};
    refusal.body = encode_error(made.error());
    return send_answer(std::move(refusal));
  }
  std::unique_ptr<Message> message = std::move(made).value();
  message->scope.deadline = parcel.header.time_left_ns > 0 ? home_->now() + Time(parcel.header.time_left_ns) : kNever;
  message->scope.trace = parcel.header.trace;
  message->priority = message->foreign = message->answered = false;
  message->asker = nullptr;
  message->ask = ask;
  if (ask != 0) {
    message->asker = this;
    answering_[ask] = cell;
  }
  // Its credit goes back when it has found room.
  message->sender = this;
  message->room = 0;
  if (cell->send_when_room(message, cell->executor_here()) == Sent::yes) return;
  cell->refuse(std::move(message));
}

void RemoteNode::answer(std::unique_ptr<Message> answered) {
  answered->answered = true;
  if (home_->loop().runs_here()) return deliver(std::move(answered));
  answered->asker = this;
  home_->loop().post(*answered.release());
}

// A message of theirs has found room, or its answer is there.
void RemoteNode::deliver(std::unique_ptr<Message> answered) {
  const Handle<RemoteNode> alive(this);
  answered->asker = nullptr;
  if (link_ == nullptr) return;
  if (answered->ask == 0) return link_->release(1);
  answering_.erase(answered->ask);
  net::Parcel parcel;
  parcel.header = {.kind = FrameKind::reply, .ask = answered->ask};
  if (const Error* error = answered->error()) {
    parcel.header.kind = FrameKind::error;
    parcel.body = encode_error(*error);
  } else {
    parcel.payload = std::move(answered);
  }
  send_answer(std::move(parcel));
}

// Where the window is full an answer goes as a system message: the one who waits for it may be the one who has to
// make room.
void RemoteNode::send_answer(net::Parcel parcel) {
  if (link_ == nullptr || link_->send(parcel)) return;
  parcel.header.method = static_cast<uint16_t>(parcel.header.kind == FrameKind::reply ? System::reply : System::error);
  parcel.header.kind = FrameKind::system;
  link_->send(parcel);
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

void RemoteNode::forget(const Asker& asker, uint64_t ask) {
  const auto found = asked_by_.find({&asker, ask});
  if (found == asked_by_.end()) {
    const auto erased = std::erase_if(waiting_, [&](const Waiting& waiting) {
      return waiting.message->sender == &asker && waiting.message->room == ask;
    });
    queued_.fetch_sub(static_cast<int64_t>(erased), std::memory_order_relaxed);
    return;
  }
  send_system(System::cancel, {}, found->second);
  asked_.erase(found->second);
  asked_by_.erase(found);
}

void RemoteNode::send_system(System what, net::Body body, uint64_t ask, uint64_t destination) {
  if (link_ == nullptr) return;
  net::Parcel parcel;
  parcel.header = {
      .kind = FrameKind::system, .method = static_cast<uint16_t>(what), .destination = destination, .ask = ask};
  parcel.body = std::move(body);
  link_->send(parcel);
}

void RemoteNode::watch(RemoteActor& whom, Handle<Executor> executor, const void* who, Told told) {
  auto forward = [executor, told = std::move(told)](const Down& down) {
    executor->loop().post([told, down] { told(down); });
  };
  if (link_ == nullptr || whom.ended()) return forward({peer_.node, whom.id(), whom.name(), whom.cause()});
  const uint64_t number = next_++;
  watched_[number] = {&whom, who, std::move(forward)};
  send_system(System::watch, {}, number, whom.id());
}

void RemoteNode::unwatch(const RemoteActor& whom, const void* who) {
  for (auto watched = watched_.begin(); watched != watched_.end();) {
    if (watched->second.whom != &whom || watched->second.who != who) {
      ++watched;
      continue;
    }
    send_system(System::unwatch, {}, watched->first);
    watched = watched_.erase(watched);
  }
}

void RemoteNode::request_stop(ActorId actor, const Exit& why) {
  send_system(System::stop, exit_bytes(why).take(), 0, actor);
}

void RemoteNode::lookup(const std::string& name, const std::string& type, Found found) {
  if (link_ == nullptr) return found(failed("{}", cause_->message()));
  const uint64_t number = next_++;
  lookups_[number] = std::move(found);
  send_system(System::lookup, BytesWriter().text(name).text(type).take(), number);
}

Handle<RemoteActor> RemoteNode::actor(ActorId id, const std::string& name) {
  const std::lock_guard lock(actors_mutex_);
  Handle<RemoteActor>& actor = actors_[id];
  if (actor == nullptr) actor = new RemoteActor(this, id, name);
  return actor;
}

void RemoteNode::tell_gone(ActorId actor) {
  if (Node* node = home_->node()) {
    send_system(System::gone, exit_bytes(*node->epitaph(actor)).take(), 0, actor);
  }
}

void RemoteNode::ended(ActorId id, Cause cause) {
  const std::lock_guard lock(actors_mutex_);
  const auto found = actors_.find(id);
  if (found == actors_.end()) return;
  found->second->end(std::move(cause));
  actors_.erase(found);
}

void RemoteNode::send_down(uint64_t number, const Down& down) {
  watched_here_.erase(number);
  send_system(System::down, exit_bytes(*down.cause).take(), number, down.actor);
}

void RemoteNode::on_system(const net::Parcel& parcel) {
  Node* node = home_->node();
  if (node == nullptr) return;
  const wire::Header& header = parcel.header;
  BytesReader reader(parcel.body);
  switch (static_cast<System>(header.method)) {
    case System::cancel: {
      const auto answering = answering_.find(header.ask);
      if (answering == answering_.end()) return;
      const Handle<Cell> cell = std::move(answering->second);
      answering_.erase(answering);
      return cell->forget(*this, header.ask, cell->executor_here());
    }
    case System::watch: {
      const Handle<Cell> cell = node->find(header.destination);
      if (cell == nullptr) return send_down(header.ask, {0, header.destination, "", node->epitaph(header.destination)});
      WatchedHere& watched = watched_here_[header.ask];
      watched = {cell, std::make_unique<char>()};
      return cell->watch(home_, watched.key.get(), [self = Handle<RemoteNode>(this), n = header.ask](const Down& down) {
        self->send_down(n, down);
      });
    }
    case System::unwatch: {
      const auto watched = watched_here_.find(header.ask);
      if (watched == watched_here_.end()) return;
      watched->second.cell->unwatch(watched->second.key.get());
      watched_here_.erase(watched);
      return;
    }
    case System::down: {
      const Cause cause = read_exit(reader);
      const auto found = watched_.find(header.ask);
      if (found == watched_.end()) return;
      const Watched watched = std::move(found->second);
      watched_.erase(found);
      ended(watched.whom->id(), cause);
      return watched.told({peer_.node, watched.whom->id(), watched.whom->name(), cause});
    }
    case System::gone: return ended(header.destination, read_exit(reader));
    case System::stop: {
      const Handle<Cell> cell = node->find(header.destination);
      if (cell != nullptr) cell->request_stop(read_exit(reader));
      return;
    }
    case System::lookup: {
      const std::string name = reader.text(), type = reader.text();
      if (!reader.complete()) return malformed("a lookup");
      const auto found = node->find_registered(name, type);
      BytesWriter bytes;
      if (found.ok()) bytes.number((*found)->id()).text((*found)->name());
      else bytes.number(0).text(found.error().message());
      return send_system(System::found, bytes.take(), header.ask);
    }
    case System::found: {
      const uint64_t id = reader.number();
      const std::string text = reader.text();
      const auto waiting = lookups_.find(header.ask);
      if (!reader.complete() || waiting == lookups_.end()) return;
      const Found found = std::move(waiting->second);
      lookups_.erase(waiting);
      if (id == 0) return found(failed("{}", text));
      return found(Address{peer_.node, id, text});
    }
    default: return malformed(fmt::format("system message {}", header.method));
  }
}

void RemoteNode::malformed(std::string_view what) {
  const Error error = failed("node {} sent what it may not: {}", peer_.name, what);
  if (link_ != nullptr) link_->close(error);
  on_closed(error);
}

void RemoteNode::close(const Error& reason) {
  if (link_ != nullptr) link_->close(reason);
  on_closed(reason);
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
  queued_ = 0;
  outgoing_.clear();
  for (auto& [number, asked] : std::exchange(asked_, {})) {
    answer_with(*asked.asker, asked.number, undeliverable(asked.method->name, asked.of->name(), *cause_));
  }
  asked_by_.clear();
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    notice_room(*waiting.message, undeliverable(waiting.message->method().name, waiting.to->name(), *cause_));
  }
  for (auto& [ask, cell] : std::exchange(answering_, {})) cell->forget(*this, ask, cell->executor_here());
  for (auto& [number, watched] : std::exchange(watched_, {})) {
    watched.told({peer_.node, watched.whom->id(), watched.whom->name(), cause_});
  }
  for (auto& [number, watched] : std::exchange(watched_here_, {})) watched.cell->unwatch(watched.key.get());
  for (auto& [number, found] : std::exchange(lookups_, {})) found(failed("{}", cause_->message()));
  {
    const std::lock_guard lock(actors_mutex_);
    actors_.clear();
  }
  if (Node* node = home_->node()) node->link_lost(*this);
}

void RemoteActor::end(Cause cause) {
  if (ended()) return;
  cause_ = std::move(cause);
  ended_.store(true, std::memory_order_release);
}

void RemoteActor::forget(const Asker& asker, uint64_t ask, const Executor*) {
  node_->on_loop([node = node_, asker = Handle<const Asker>(&asker), ask] { node->forget(*asker, ask); });
}

void RemoteActor::request_stop(Cause why) {
  node_->on_loop([node = node_, id = id(), why = std::move(why)] { node->request_stop(id, *why); });
}

void RemoteActor::watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) {
  node_->on_loop([self = Handle<RemoteActor>(this), executor = std::move(executor), who, told = std::move(told)] {
    self->node_->watch(*self, executor, who, told);
  });
}

void RemoteActor::unwatch(const void* who) {
  node_->on_loop([self = Handle<RemoteActor>(this), who] { self->node_->unwatch(*self, who); });
}

}  // namespace troupe::actor
