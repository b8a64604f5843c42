// A node's links, and the actors at their other ends.
#include <future>

#include "runtime/actor/node.h"
#include "runtime/actor/remote_actor.h"
#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

// Runs `begin` on the loop and waits for the result that it hands on.
template <class T>
Result<T> wait_for(EventLoop& loop, std::chrono::nanoseconds timeout, std::string_view what,
                   std::function<void(std::function<void(Result<T>)>)> begin) {
  TROUPE_CHECK(!loop.runs_here(), "a loop's thread must not block");
  const auto promise = std::make_shared<std::promise<Result<T>>>();
  auto future = promise->get_future();
  loop.post([promise, begin = std::move(begin)] {
    begin([promise](Result<T> result) { promise->set_value(std::move(result)); });
  });
  if (future.wait_for(std::min(timeout, kLongestWait)) == std::future_status::ready) return future.get();
  return failed("{} within {}", what, seconds_text(timeout));
}

}  // namespace

void Node::adopt(std::unique_ptr<net::Link> link) {
  const net::Peer peer = link->peer();
  Handle<RemoteNode> remote;
  Error refusal = failed("node {} is linked to {} already", options_.name, peer.name);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ != nullptr) {
      refusal = failed("node {} stops", options_.name);
    } else if (peer.node == options_.id) {
      refusal = failed("node {} is not linked to itself", options_.name);
    } else if (!remotes_.contains(peer.node)) {
      remote = new RemoteNode(executors_[0], std::move(link));
      remotes_[peer.node] = remote;
    }
  }
  if (remote == nullptr) return link->close(refusal);
  remote->start();
  if (options_.on_link) options_.on_link(peer, nullptr);
}

Result<std::string> Node::listen(net::Transport& transport, const std::string& address) {
  return transport.listen(address, [executor = executors_[0]](std::unique_ptr<net::Link> link) {
    if (Node* node = executor->node()) node->adopt(std::move(link));
  });
}

void Node::connect(net::Transport& transport, const std::string& address,
                   std::function<void(Result<net::Peer>)> connected) {
  transport.connect(address, [executor = executors_[0], address,
                              connected = std::move(connected)](Result<std::unique_ptr<net::Link>> link) {
    if (!link.ok()) return connected(std::move(link).error());
    Node* node = executor->node();
    if (node == nullptr) return connected(failed("{}: the node has gone", address));
    const net::Peer peer = (*link)->peer();
    node->adopt(std::move(link).value());
    if (node->remote(peer.node) == nullptr) return connected(failed("{}: the link was refused", address));
    connected(peer);
  });
}

void Node::unlink(uint64_t node, const Error& reason) {
  if (const Handle<RemoteNode> linked = remote(node)) linked->drain(reason, nullptr);
}

Result<std::string> Node::listen_blocking(net::Transport& transport, const std::string& address) {
  const std::string numbers = TROUPE_TRY(transport.resolve(address));
  return wait_for<std::string>(executors_[0]->loop(), std::chrono::seconds(10), "the loop did not listen",
                               [this, &transport, numbers](auto done) { done(listen(transport, numbers)); });
}

Result<net::Peer> Node::connect_blocking(net::Transport& transport, const std::string& address,
                                         std::chrono::nanoseconds timeout) {
  return wait_for<net::Peer>(executors_[0]->loop(), timeout, fmt::format("{}: no link", address),
                             [this, &transport, address](auto done) { connect(transport, address, std::move(done)); });
}

std::vector<net::Peer> Node::peers() const {
  const std::lock_guard lock(mutex_);
  std::vector<net::Peer> peers;
  for (const auto& [id, remote] : remotes_) peers.push_back(remote->peer());
  return peers;
}

Handle<RemoteNode> Node::remote(uint64_t node) const {
  const std::lock_guard lock(mutex_);
  const auto found = remotes_.find(node);
  return found == remotes_.end() ? nullptr : found->second;
}

void Node::link_lost(RemoteNode& remote) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = remotes_.find(remote.peer().node);
    if (found != remotes_.end() && found->second == &remote) remotes_.erase(found);
  }
  if (options_.on_link) options_.on_link(remote.peer(), remote.cause());
}

void Node::find_on(uint64_t node, const std::string& name, const std::string& type,
                   std::function<void(Result<Address>)> found) {
  const Handle<RemoteNode> linked = remote(node);
  if (linked == nullptr) return found(failed("{} has no link to node {}", where_, node));
  linked->on_loop([linked, name, type, found = std::move(found)] { linked->lookup(name, type, found); });
}

Result<Address> Node::find_blocking(uint64_t node, const std::string& name, const std::string& type,
                                    std::chrono::nanoseconds timeout) {
  return wait_for<Address>(executors_[0]->loop(), timeout, fmt::format("node {} did not say who is {}", node, name),
                           [this, node, name, type](auto done) { find_on(node, name, type, std::move(done)); });
}

Result<Handle<Endpoint>> Node::resolve(const Address& address, const std::type_info& type) const {
  if (address.node == options_.id) {
    Handle<Cell> cell = find(address.actor);
    if (cell == nullptr) return failed("{}", epitaph(address.actor)->message());
    if (cell->type() != type) return failed("{} is not of the type that was asked for", cell->name());
    return Handle<Endpoint>(std::move(cell));
  }
  const Handle<RemoteNode> linked = remote(address.node);
  if (linked == nullptr) return failed("{} has no link to the node of {}", where_, address.name);
  return Handle<Endpoint>(linked->actor(address.actor, address.name));
}

Cause Node::epitaph(ActorId id) const {
  const std::lock_guard lock(mutex_);
  for (auto epitaph = epitaphs_.rbegin(); epitaph != epitaphs_.rend(); ++epitaph) {
    if (epitaph->first == id) return epitaph->second;
  }
  return std::make_shared<const Exit>(
      Exit{Exit::Kind::stopped, fmt::format("actor {:x}", id), where_, "it is not here, or ended long ago"});
}

}  // namespace troupe::actor
