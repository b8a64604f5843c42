#include "parallel/comm/transfers.h"

#include <algorithm>

namespace troupe::parallel {
namespace {

constexpr int64_t kMostBytes = 256 << 20;

}  // namespace

void Transfers::send(const void* data, int64_t bytes, int to, int tag) {
  for (int64_t at = 0; at < bytes; at += kMostBytes) {
    Message& message = messages_.emplace_back(Message{0, -1});
    check(calls_.isend(static_cast<const std::byte*>(data) + at, static_cast<int>(std::min(kMostBytes, bytes - at)), to,
                       tag, &message.request));
  }
}

void Transfers::receive(void* data, int64_t bytes, int from, int tag) {
  for (int64_t at = 0; at < bytes; at += kMostBytes) {
    Message& message = messages_.emplace_back(Message{0, from});
    check(calls_.irecv(static_cast<std::byte*>(data) + at, static_cast<int>(std::min(kMostBytes, bytes - at)), from,
                       tag, &message.request));
  }
}

void Transfers::receive_from_any(void* data, int bytes, int tag) {
  Message& message = messages_.emplace_back(Message{0, 0});
  check(calls_.irecv_from_any(data, bytes, tag, &message.request));
}

bool Transfers::settle(bool& moved) {
  const char* error = nullptr;  // thrown when no message is on its way within the list
  std::erase_if(messages_, [&](Message& message) {
    bool done = false;
    if (error == nullptr) error = calls_.test(&message.request, &done);
    moved = moved || done;
    return done;
  });
  check(error);
  return messages_.empty();
}

std::vector<int> Transfers::awaited() const {
  std::vector<int> ranks;
  for (const Message& message : messages_) {
    if (message.from >= 0) ranks.push_back(message.from);
  }
  std::ranges::sort(ranks);
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

bool Transfers::cancel() {
  std::erase_if(messages_, [&](Message& message) {
    bool done = false;
    if (message.from >= 0) calls_.cancel(&message.request);
    return calls_.test(&message.request, &done) == nullptr && done;
  });
  return messages_.empty();
}

}  // namespace troupe::parallel
