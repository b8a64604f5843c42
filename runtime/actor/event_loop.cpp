#include "runtime/actor/event_loop.h"

#include <utility>

namespace troupe::actor {

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    cancel();
    entry_ = std::move(other.entry_);
  }
  return *this;
}

void Timer::cancel() {
  if (const auto entry = std::exchange(entry_, nullptr)) entry->cancel();
}

}  // namespace troupe::actor
