#include "runtime/actor/outbox.h"

#include "runtime/actor/bundle.h"

namespace troupe::actor {

void Outbox::send(net::Parcel parcel) {
  flush();
  push(std::move(parcel));
}

bool Outbox::hold(net::Parcel parcel, std::shared_ptr<const SharedArguments> arguments) {
  if (arguments != arguments_) flush();
  arguments_ = std::move(arguments);
  held_.push_back(std::move(parcel));
  return held_.size() == 1;
}

void Outbox::flush() {
  auto parcels = std::exchange(held_, {});
  arguments_.reset();
  if (parcels.size() > 1) {
    net::Parcel all = pack_bundle(parcels);
    if (link_.prepare(all).ok()) return push(std::move(all));
  }
  // Alone, or too large for one frame.
  for (net::Parcel& parcel : parcels) push(std::move(parcel));
}

void Outbox::push(net::Parcel parcel) {
  if (!waiting_.empty() || !link_.send(parcel)) waiting_.push_back(std::move(parcel));
}

void Outbox::clear() {
  held_.clear();
  arguments_.reset();
  waiting_.clear();
}

void Outbox::on_room() {
  while (!waiting_.empty() && link_.send(waiting_.front())) waiting_.pop_front();
}

}  // namespace troupe::actor
