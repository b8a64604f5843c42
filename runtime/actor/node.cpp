#include "runtime/actor/node.h"

#include <algorithm>
#include <future>

#include "runtime/actor/remote_actor.h"
#include "runtime/base/check.h"

namespace troupe::actor {
namespace {

// The last actors that died, so that whoever asks them late learns why they died.
constexpr size_t kEpitaphs = 1024;

std::string where_is(const NodeOptions& options) {
  std::string text = fmt::format("node {}", options.name);
  if (!options.host.empty()) text += fmt::format(", host {}", options.host);
  if (options.pid != 0) text += fmt::format(", pid {}", options.pid);
  return text;
}

}  // namespace

Node::Node(NodeOptions options, std::vector<EventLoop*> loops)
    : options_(std::move(options)), where_(where_is(options_)) {
  TROUPE_CHECK(!loops.empty() && options_.id != 0);
  for (EventLoop* loop : loops)
    executors_.emplace_back(new Executor(*this, *loop, static_cast<int>(executors_.size()), options_.trace));
}

Node::~Node() {
  std::vector<Handle<Cell>> cells;
  {
    const std::lock_guard lock(mutex_);
    for (const Place& place : places_) {
      if (place.cell != nullptr) cells.push_back(place.cell);
    }
  }
  const auto cause = std::make_shared<const Exit>(
      Exit{Exit::Kind::lost, fmt::format("node {}", options_.name), where_, "it has gone"});
  std::unordered_map<uint64_t, Handle<RemoteNode>> remotes;
  {
    const std::lock_guard lock(mutex_);
    remotes.swap(remotes_);
  }
  for (const auto& [id, remote] : remotes) remote->close(failed("{}", cause->message()));
  // In any order: nobody hears of it.
  for (const Handle<Cell>& cell : cells) cell->kill(cause);
  for (const Handle<Cell>& cell : cells) cell->orphan();
  for (const Handle<Executor>& executor : executors_) executor->close();
}

// Whoever finds the cell finds it complete, and its start posted before anything that they post.
Handle<Cell> Node::start_cell(const SpawnOptions& options, Cell* parent, std::unique_ptr<Actor> actor,
                              ProtocolTable protocol) {
  const int loop = std::max(options.loop, 0);
  TROUPE_CHECK(loop < loops(), "{} has no loop {}: {}", where_, loop, options.name);
  std::string name = parent == nullptr ? options.name : parent->name() + "/" + options.name;
  const std::lock_guard lock(mutex_);
  if (stopping_ != nullptr) return nullptr;
  const auto index = free_.empty() ? static_cast<uint32_t>(places_.size()) : free_.back();
  const uint32_t use = free_.empty() ? 1 : places_[index].use + 1;
  const Handle<Cell> cell(new Cell(executors_[static_cast<size_t>(loop)], uint64_t{use} << 32 | index, std::move(name),
                                   options, parent, std::move(actor), protocol));
  if (free_.empty()) places_.emplace_back();
  else free_.pop_back();
  places_[index] = {cell, use};
  ++living_;
  if (!options.registered.empty()) names_[options.registered] = cell;
  if (parent == nullptr) roots_.push_back(cell);
  cell->start();
  return cell;
}

Handle<Cell> Node::find(ActorId id) const {
  const std::lock_guard lock(mutex_);
  const auto index = static_cast<uint32_t>(id);
  if (index >= places_.size() || places_[index].cell == nullptr || places_[index].cell->id() != id) return nullptr;
  return places_[index].cell;
}

Result<Handle<Cell>> Node::find_registered(const std::string& name, const std::string& type) const {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(name);
  if (found == names_.end() || found->second->dead()) return failed("no actor is registered as {} on {}", name, where_);
  if (found->second->type().name() != type) {
    return failed("{} on {} is not of the type that was asked for", name, where_);
  }
  return found->second;
}

int64_t Node::living() const {
  const std::lock_guard lock(mutex_);
  return living_;
}

bool Node::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_ != nullptr;
}

// On the cell's loop. Its place is given back by a job of its own: the cell may be on the stack.
void Node::ended(Cell& cell) {
  cell.executor().loop().post([executor = Handle<Executor>(&cell.executor()), id = cell.id()] {
    if (executor->node() != nullptr) executor->node()->remove(id);
  });
}

void Node::remove(ActorId id) {
  Handle<Cell> cell;
  bool was_root = false;
  {
    const std::lock_guard lock(mutex_);
    Place& place = places_[static_cast<uint32_t>(id)];
    cell = std::move(place.cell);
    free_.push_back(static_cast<uint32_t>(id));
    --living_;
    if (epitaphs_.size() >= kEpitaphs) epitaphs_.pop_front();
    epitaphs_.emplace_back(id, cell->cause());
    was_root = std::erase(roots_, cell) > 0;
    if (was_root && cell->stop_failed() && stopping_ != nullptr && stop_failure_ == nullptr) {
      stop_failure_ = cell->cause();
    }
    std::erase_if(names_, [&](const auto& named) { return named.second == cell; });
  }
  if (!was_root) return;
  if (cell->has_failed() && options_.on_failure) {
    options_.on_failure({options_.id, id, cell->name(), cell->cause()});
  }
  stop_next();
}

void Node::stop(std::string why, std::function<void()> stopped) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ == nullptr) {
      stopping_ = std::make_shared<const Exit>(Exit{Exit::Kind::stopped, where_, "", std::move(why)});
    }
    stopped_.push_back(std::move(stopped));
  }
  stop_next();
}

void Node::stop_next() {
  Handle<Cell> last;
  std::vector<std::function<void()>> stopped;
  Cause why;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ == nullptr) return;
    why = stopping_;
    if (!roots_.empty()) last = roots_.back();
    else stopped.swap(stopped_);
  }
  if (last != nullptr) return last->request_stop(why);
  if (stopped.empty()) return;
  // The last link to have taken everything ends the stop, by letting go of this.
  const std::shared_ptr<void> done(nullptr, [stopped = std::move(stopped)](void*) {
    for (const auto& callback : stopped) callback();
  });
  executors_[0]->loop().post([executor = executors_[0], done, why] {
    Node* node = executor->node();
    if (node == nullptr) return;
    for (const net::Peer& peer : node->peers()) {
      if (const auto linked = node->remote(peer.node)) linked->drain(failed("{}", why->message()), [done] {});
    }
  });
}

Status Node::stop_blocking(std::chrono::nanoseconds timeout, std::string why) {
  // The callback may come after this has given up.
  const auto stopped = std::make_shared<std::promise<void>>();
  stop(std::move(why), [stopped] { stopped->set_value(); });
  if (stopped->get_future().wait_for(std::min(timeout, kLongestWait)) == std::future_status::ready) {
    const std::lock_guard lock(mutex_);
    if (stop_failure_ == nullptr) return {};
    return failed("{} has stopped, but {}", where_, stop_failure_->message());
  }
  return failed("{} has not stopped within {}:\n{}", where_, seconds_text(timeout),
                report_blocking(std::chrono::seconds(1)).text());
}

}  // namespace troupe::actor
