#include "runtime/actor/remote_actor.h"

#include <algorithm>

namespace troupe::actor {
namespace {

// Messages that find room here; more tells wait for it, or are refused.
constexpr int64_t kQueue = 1024;

}  // namespace

Sent RemoteActor::send(std::unique_ptr<Message>& message, const Executor* from) {
  if (message->method().number == kLocalMethod) return Sent::unfit;
  if (gone()) return Sent::dead;
  const bool bounded = message->asker == nullptr;
  if (queued_.fetch_add(1, std::memory_order_relaxed) >= kQueue && bounded) {
    queued_.fetch_sub(1, std::memory_order_relaxed);
    return Sent::full;
  }
  return hand_over(message, from);
}

Sent RemoteActor::send_when_room(std::unique_ptr<Message>& message, const Executor* from) {
  if (message->method().number == kLocalMethod) return Sent::unfit;
  if (gone()) return Sent::dead;
  queued_.fetch_add(1, std::memory_order_relaxed);
  return hand_over(message, from);
}

Sent RemoteActor::hand_over(std::unique_ptr<Message>& message, const Executor* from) {
  EventLoop& loop = node_->home()->loop();
  if (from == node_->home().get() || loop.runs_here()) {
    arrive(std::move(message));
  } else {
    message->target = this;
    loop.post(*message.release());
  }
  return Sent::yes;
}

void RemoteActor::arrive(std::unique_ptr<Message> message) {
  queue_.push_back(std::move(message));
  node_->count_waiting(1);
  if (gone()) return refuse_all();
  admit();
  if (!in_line_) pump();
}

// Tells the senders of tells that have found room.
void RemoteActor::admit() {
  while (admitted_ < std::min(queue_.size(), static_cast<size_t>(kQueue))) {
    Message& message = *queue_[admitted_++];
    if (message.sender != nullptr) notice_room(message, {});
  }
}

std::unique_ptr<Message> RemoteActor::take(size_t place) {
  std::unique_ptr<Message> message = std::move(queue_[place]);
  queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(place));
  if (place < admitted_) --admitted_;
  queued_.fetch_sub(1, std::memory_order_relaxed);
  node_->count_waiting(-1);
  return message;
}

void RemoteActor::pump() {
  const Handle<RemoteActor> alive(this);
  while (!queue_.empty() && under_way_.load(std::memory_order_relaxed) < kWindow && under_way_bytes_ < kWindowBytes) {
    if (!node_->has_room(*this)) break;
    node_->transmit(*this, take(0));
  }
  admit();
  node_->end_draining();
}

void RemoteActor::sent(int64_t bytes) {
  under_way_.fetch_add(1, std::memory_order_relaxed);
  under_way_bytes_ += bytes;
}

bool RemoteActor::credit(int64_t messages, int64_t bytes) {
  if (messages < 0 || messages > under_way_.load() || bytes < 0 || bytes > under_way_bytes_) return false;
  under_way_.fetch_sub(messages);
  under_way_bytes_ -= bytes;
  if (!in_line_) pump();
  return true;
}

void RemoteActor::refuse(std::unique_ptr<Message> message) {
  const Error error = undeliverable(message->method().name, name_, *cause());
  if (message->sender != nullptr) notice_room(*message, error);
  if (message->asker == nullptr) return;
  message->fail(error);
  const Handle<Asker> asker = message->asker;
  asker->answer(std::move(message));
}

void RemoteActor::refuse_all() {
  const Handle<RemoteActor> alive(this);
  while (!queue_.empty()) refuse(take(0));
}

void RemoteActor::end(Cause cause) {
  if (ended()) return;
  cause_ = std::move(cause);
  ended_.store(true, std::memory_order_release);
  refuse_all();
}

void RemoteActor::forget(const Asker& asker, uint64_t ask, const Executor*) {
  if (gone()) return;
  node_->on_loop([self = Handle<RemoteActor>(this), asker = Handle<const Asker>(&asker), ask] {
    const auto found = std::ranges::find_if(self->queue_, [&](const auto& message) {
      return (message->asker == asker && message->ask == ask) || (message->sender == asker && message->room == ask);
    });
    if (found == self->queue_.end()) return self->node_->cancel(*asker, ask);
    self->take(static_cast<size_t>(found - self->queue_.begin()));
    self->admit();
    self->node_->end_draining();
  });
}

const Executor* RemoteActor::executor_here() const {
  return !node_->lost() && node_->home()->loop().runs_here() ? node_->home().get() : nullptr;
}

void RemoteActor::request_stop(Cause why) {
  if (gone()) return;
  node_->on_loop([node = node_, id = id(), why = std::move(why)] { node->request_stop(id, *why); });
}

void RemoteActor::watch(Handle<Executor> executor, const void* who, std::function<void(const Down&)> told) {
  auto forward = [executor, told = std::move(told)](const Down& down) {
    executor->loop().post([told, down] { told(down); });
  };
  if (gone()) return forward({node(), id_, name_, cause()});
  node_->on_loop([self = Handle<RemoteActor>(this), who, forward = std::move(forward)] {
    self->node_->watch(*self, who, forward);
  });
}

void RemoteActor::unwatch(const void* who) {
  if (gone()) return;
  node_->on_loop([self = Handle<RemoteActor>(this), who] { self->node_->unwatch(*self, who); });
}

}  // namespace troupe::actor
