#include "runtime/actor/bundle.h"

#include <algorithm>

#include "runtime/wire/bytes.h"

namespace troupe::actor {
namespace {

using wire::FrameKind;

// Destination, ask and trace of a message.
constexpr size_t kTargetBytes = 24;

class Objects final : public net::Payload {
 public:
  explicit Objects(std::vector<net::Parcel> bundled) : parcels(std::move(bundled)) {}
  net::Body encode() const override { throw CheckFailure("objects on a link that carries bytes"); }
  std::vector<net::Parcel> parcels;
};

// The words are those of the arguments, as of a single message; whom they are for goes beside them.
net::Body join_messages(const std::vector<net::Parcel>& parcels) {
  BytesWriter targets;
  for (const net::Parcel& parcel : parcels) {
    targets.number(parcel.header.destination).number(parcel.header.ask).number(parcel.header.trace);
  }
  net::Body body = parcels[0].body;
  const auto list = std::make_shared<const net::Body>(targets.take());
  body.buffers.emplace_back(list->words, list);
  return body;
}

net::Body join_answers(const std::vector<net::Parcel>& parcels) {
  BytesWriter answers;
  std::vector<wire::Buffer> buffers;
  for (const auto& [header, payload, body] : parcels) {
    answers.number(header.ask).number(header.kind == FrameKind::error ? 1 : 0);
    answers.text(wire::text_of(body.words)).number(body.buffers.size());
    buffers.insert(buffers.end(), body.buffers.begin(), body.buffers.end());
  }
  net::Body all = answers.take();
  all.buffers = std::move(buffers);
  return all;
}

Status split_messages(net::Parcel parcel, const std::function<void(net::Parcel&)>& take) {
  if (parcel.body.buffers.empty()) return failed("nobody is meant");
  const wire::Buffer list = std::move(parcel.body.buffers.back());
  parcel.body.buffers.pop_back();
  if (list.size() == 0 || list.size() % kTargetBytes != 0) return failed("a list of actors that is cut off");
  BytesReader targets(list.bytes());
  while (!targets.complete()) {
    parcel.header.destination = targets.number();
    parcel.header.ask = targets.number();
    parcel.header.trace = targets.number();
    take(parcel);
  }
  return {};
}

Result<std::vector<net::Parcel>> split_answers(const net::Body& body) {
  BytesReader answers(body.words);
  std::span<const wire::Buffer> buffers(body.buffers);
  std::vector<net::Parcel> parcels;
  while (answers.ok() && !answers.complete()) {
    net::Parcel& one = parcels.emplace_back();
    one.header.ask = answers.number();
    one.header.kind = answers.number() != 0 ? FrameKind::error : FrameKind::reply;
    wire::append(one.body.words, wire::bytes_of(answers.text()));
    const uint64_t count = answers.number();
    if (count > buffers.size()) return failed("buffers that are not there");
    one.body.buffers.assign(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(count));
    buffers = buffers.subspan(count);
  }
  if (!answers.ok()) return failed("answers that are cut off");
  return parcels;
}

}  // namespace

bool is_bundle(const wire::Header& header) {
  if (header.kind == FrameKind::message) return header.destination == 0;
  return header.kind == FrameKind::reply && header.ask == 0;
}

net::Parcel pack_bundle(std::vector<net::Parcel>& parcels) {
  const wire::Header& first = parcels[0].header;
  const bool messages = first.kind == FrameKind::message;
  net::Parcel all;
  all.header.kind = messages ? FrameKind::message : FrameKind::reply;
  all.header.method = first.method;
  all.header.time_left_ns = first.time_left_ns;  // they were sent together
  if (std::ranges::any_of(parcels, [](const net::Parcel& parcel) { return parcel.payload != nullptr; })) {
    all.payload = std::make_unique<Objects>(std::move(parcels));
  } else {
    all.body = messages ? join_messages(parcels) : join_answers(parcels);
  }
  return all;
}

Status unpack_bundle(net::Parcel parcel, const std::function<void(net::Parcel&)>& take) {
  std::vector<net::Parcel> parcels;
  if (parcel.payload != nullptr) {
    auto* objects = dynamic_cast<Objects*>(parcel.payload.get());
    if (objects == nullptr) return failed("an object of another kind");
    parcels = std::move(objects->parcels);
  } else {
    if (parcel.header.kind == FrameKind::message) return split_messages(std::move(parcel), take);
    parcels = TROUPE_TRY(split_answers(parcel.body));
  }
  for (net::Parcel& one : parcels) take(one);
  return {};
}

}  // namespace troupe::actor
