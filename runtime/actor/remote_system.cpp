// What linked nodes say to each other besides messages and answers: watches and ends, names, stops, credit, and
// questions that are called off.
#include <algorithm>

#include "runtime/actor/node.h"
#include "runtime/actor/remote.h"
#include "runtime/actor/remote_actor.h"

namespace troupe::actor {
namespace {

using wire::FrameKind;

// More questions than a link and its actors have room for, so more than can be called off before they come.
constexpr size_t kMostCancelled = size_t{1} << 18;

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

}  // namespace

void RemoteNode::cancel(const Asker& asker, uint64_t ask) {
  const auto found = asked_by_.find({&asker, ask});
  if (found == asked_by_.end()) return;
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

void RemoteNode::watch(RemoteActor& whom, const void* who, Told told) {
  if (link_ == nullptr || whom.ended()) return told({peer_.node, whom.id(), whom.name(), whom.cause()});
  const uint64_t number = next_++;
  watched_[number] = {&whom, who, std::move(told)};
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

void RemoteNode::tell_gone(ActorId actor) {
  if (Node* node = home_->node()) {
    send_system(System::gone, exit_bytes(*node->epitaph(actor)).take(), 0, actor);
  }
}

void RemoteNode::ended(ActorId id, const Cause& cause) {
  Handle<RemoteActor> actor;
  {
    const std::lock_guard lock(actors_mutex_);
    if (const auto found = actors_.extract(id)) actor = std::move(found.mapped());
  }
  if (actor != nullptr) actor->end(cause);
}

void RemoteNode::send_down(uint64_t number, const Down& down) {
  watched_here_.erase(number);
  send_system(System::down, exit_bytes(*down.cause).take(), number, down.actor);
}

void RemoteNode::on_cancel(uint64_t ask) {
  if (ask > last_ask_) {
    cancelled_.insert(ask);
    if (cancelled_.size() > kMostCancelled) malformed("cancels of questions that do not come");
    return;
  }
  const auto answering = answering_.extract(ask);
  if (!answering) return;
  const Handle<Cell> cell = answering.mapped().cell;
  cell->forget(*this, ask, cell->executor_here());
}

void RemoteNode::on_system(const net::Parcel& parcel) {
  Node* node = home_->node();
  if (node == nullptr) return;
  const wire::Header& header = parcel.header;
  BytesReader reader(parcel.body);
  switch (static_cast<System>(header.method)) {
    case System::cancel: return on_cancel(header.ask);
    case System::room: return on_credit(header.destination, reader);
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

// Seldom enough to cost little, often enough that no sender waits for it.
void RemoteNode::give_back(const Share& share) {
  if (give_back_.size() >= most_give_back_) {
    std::erase_if(give_back_, [node = home_->node()](const auto& kept) {
      return node == nullptr || node->find(kept.first) == nullptr;
    });
    most_give_back_ = std::max<size_t>(2 * give_back_.size(), 64);
  }
  Share& kept = give_back_[share.actor];
  kept.messages += share.messages;
  kept.bytes += share.bytes;
  if (kept.messages < RemoteActor::kWindow / 4 && kept.bytes < RemoteActor::kWindowBytes / 4) return;
  BytesWriter bytes;
  bytes.number(static_cast<uint64_t>(kept.messages)).number(static_cast<uint64_t>(kept.bytes));
  give_back_.erase(share.actor);
  send_system(System::room, bytes.take(), 0, share.actor);
}

void RemoteNode::on_credit(ActorId id, BytesReader& reader) {
  const auto messages = static_cast<int64_t>(reader.number()), bytes = static_cast<int64_t>(reader.number());
  if (!reader.complete()) return malformed("a credit");
  Handle<RemoteActor> actor;
  {
    const std::lock_guard lock(actors_mutex_);
    const auto found = actors_.find(id);
    if (found != actors_.end()) actor = found->second;
  }
  if (actor != nullptr && !actor->credit(messages, bytes)) malformed("credit for more than was sent");
}

}  // namespace troupe::actor
