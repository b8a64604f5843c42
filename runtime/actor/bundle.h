// Several parcels of one link as one frame: what a MeshRef sends to the actors of one node, and their answers. On a
// link that moves objects the parcels stay what they are. Elsewhere messages become their common arguments, encoded
// once, and a list of whom they are for; answers become a list of them.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/actor/call.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

// Arguments that messages to several actors have in common.
class SharedArguments {
 public:
  virtual ~SharedArguments() = default;
  // Encoded when it is first asked for. Any thread.
  const net::Body& body() const {
    std::call_once(once_, [this] { body_ = encode(); });
    return body_;
  }

 protected:
  virtual net::Body encode() const = 0;

 private:
  mutable std::once_flag once_;
  mutable net::Body body_;
};

// The message that calls M with arguments that others share; where it arrives as an object, a Call<M> is made of it.
template <auto M>
class SharedCall final : public Replying<typename Traits<M>::Answer> {
 public:
  using Arguments = typename Traits<M>::Arguments;
  struct Shared final : SharedArguments {
    explicit Shared(Arguments a) : arguments(std::move(a)) {}
    net::Body encode() const override { return encode_arguments(arguments); }
    const Arguments arguments;
  };

  explicit SharedCall(std::shared_ptr<const Shared> shared)
      : Replying<typename Traits<M>::Answer>(kMethod<M>), shared_(std::move(shared)) {}
  std::shared_ptr<const SharedArguments> shared() const override { return shared_; }
  std::unique_ptr<Message> unshared() const override { return std::make_unique<Call<M>>(shared_->arguments); }
  bool begin(Actor&, Cell& cell) override {
    handler_failed(cell, *this, std::make_exception_ptr(CheckFailure("a shared message was not made an actor's own")));
    return true;
  }

 private:
  net::Body encode_call() const override { return shared_->body(); }
  std::shared_ptr<const Shared> shared_;
};

bool is_bundle(const wire::Header& header);
// Parcels that a link has prepared: messages that share their arguments, or answers. Those of bytes stay as they are;
// objects go along. REQUIRES: one or more.
net::Parcel pack_bundle(std::vector<net::Parcel>& parcels);
// Hands each of them to `take`; messages of bytes share the body, one after the other. REQUIRES: is_bundle(). Errors:
// the bytes are no such thing; then nothing was taken.
Status unpack_bundle(net::Parcel parcel, const std::function<void(net::Parcel&)>& take);

}  // namespace troupe::actor
