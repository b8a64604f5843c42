#include "runtime/net/ucx.h"

#include "runtime/net/socket_door.h"
#include "runtime/net/ucx_link.h"
#include "runtime/wire/bytes.h"

namespace troupe::net {
namespace {

// What an identity says of a node's transport: this, then the address of its UCX worker.
constexpr std::string_view kMark = "ucx ";

class UcxTransport final : public Transport {
 public:
  UcxTransport(actor::ThreadLoop& loop, const LocalNode& node, const LinkOptions& options,
               std::shared_ptr<UcxWorker> worker)
      : loop_(loop),
        node_(node),
        options_(options),
        worker_(std::move(worker)),
        pool_(std::make_shared<wire::BufferPool>()),
        door_(loop, node, options, [address = describe(*worker_)] { return address; }) {}

  std::string_view name() const override { return "ucx"; }
  void on_refused(std::function<void(const Error&)> refused) override { door_.on_refused(std::move(refused)); }

  Result<std::string> resolve(const std::string& address) const override { return SocketDoor::resolve(address); }

  Result<std::string> listen(const std::string& address, std::function<void(std::unique_ptr<Link>)> accepted) override {
    return door_.listen(address, [this, accepted = std::move(accepted)](SocketDoor::Entered entered) {
      auto link = make_link(std::move(entered));
      if (link.ok()) accepted(std::move(link).value());
    });
  }

  void connect(const std::string& address, std::function<void(Result<std::unique_ptr<Link>>)> connected) override {
    door_.connect(address, [this, address, connected = std::move(connected)](Result<SocketDoor::Entered> entered) {
      if (!entered.ok()) return connected(std::move(entered).error());
      auto link = make_link(std::move(entered).value());
      if (!link.ok()) return connected(std::move(link).error().within(address));
      connected(std::move(link));
    });
  }

 private:
  static std::vector<std::byte> describe(const UcxWorker& worker) {
    std::vector<std::byte> described;
    wire::append(described, wire::bytes_of(kMark));
    wire::append(described, worker.address());
    return described;
  }

  Result<std::unique_ptr<Link>> make_link(SocketDoor::Entered entered) {
    const std::span<const std::byte> transport = entered.peer.transport;
    if (!wire::text_of(transport).starts_with(kMark)) return failed("does not speak ucx, but tcp");
    auto state = std::make_shared<UcxLink>(loop_, node_, peer_of(entered.peer), joint_options(options_, entered.peer),
                                           worker_, pool_, std::move(entered.socket));
    // The first bytes of the connection's secrets: only who went through the handshake can send to this link.
    const auto own = wire::load<uint64_t>(entered.from_peer.data());
    const auto peer = wire::load<uint64_t>(entered.to_peer.data());
    TROUPE_TRY(state->join(transport.subspan(kMark.size()), own, peer));
    return std::unique_ptr<Link>(std::make_unique<LinkHandle>(std::move(state)));
  }

  actor::ThreadLoop& loop_;
  const LocalNode& node_;
  const LinkOptions options_;
  const std::shared_ptr<UcxWorker> worker_;
  const std::shared_ptr<wire::BufferPool> pool_;
  SocketDoor door_;
};

}  // namespace

bool has_ucx() { return true; }

Result<std::unique_ptr<Transport>> make_ucx_transport(actor::ThreadLoop& loop, const LocalNode& node,
                                                      const LinkOptions& options, const UcxOptions& ucx) {
  auto worker = TROUPE_TRY(UcxWorker::create(loop, ucx));
  return std::unique_ptr<Transport>(std::make_unique<UcxTransport>(loop, node, options, std::move(worker)));
}

}  // namespace troupe::net
