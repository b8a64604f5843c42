// A process for the tests to talk to: dials, then answers as told until the link closes.
//
//   net_peer BACKEND ADDRESS echo     returns every parcel
//   net_peer BACKEND ADDRESS hold     takes parcels, and never releases them
//   net_peer BACKEND ADDRESS pour     sends 4 MiB buffers for as long as there is room: the k-th full of bytes k % 251
//
// The token and the link's options come from the environment; exit code 0 where the peer closed the link.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/unit/net/peer_settings.h"

namespace troupe::net {
namespace {

int run(const std::string& backend, const std::string& address, const std::string& mode) {
  auto self = LocalNode::here("peer", 1);
  if (!self.ok()) return 3;
  const LocalNode node(*self, "build-1", PeerSettings::kToken);
  actor::ThreadLoop loop;
  auto transport = make_transport(backend, loop, node, PeerSettings::from_environment().options());
  if (!transport.ok()) {
    fmt::print(stderr, "net_peer: {}\n", transport.error().message());
    return 3;
  }
  std::unique_ptr<Link> link;
  int exit_code = 1;
  size_t poured = 0;
  const auto pour = [&] {
    std::span<std::byte> bytes;
    while (link->has_room()) {
      Parcel parcel;
      parcel.body.buffers.push_back(wire::Buffer::allocate(size_t{4} << 20, &bytes));
      std::ranges::fill(bytes, static_cast<std::byte>(poured++ % 251));
      link->send(parcel);
    }
  };
  (*transport)->connect(address, [&](Result<std::unique_ptr<Link>> connected) {
    if (!connected.ok()) {
      fmt::print(stderr, "net_peer: {}\n", connected.error().message());
      return loop.stop();
    }
    link = std::move(connected).value();
    LinkEvents events;
    events.on_parcel = [&](Parcel parcel) {
      if (mode == "hold") return;
      link->release(1);
      if (mode == "echo") link->send(parcel);
    };
    events.on_room = [&] {
      if (mode == "pour") pour();
    };
    events.on_closed = [&](Error error) {
      exit_code = error.message() == "the test is over" ? 0 : 1;
      loop.stop();
    };
    link->start(std::move(events));
    if (mode == "pour") pour();
  });
  loop.run();
  link.reset();
  transport->reset();
  return exit_code;
}

}  // namespace
}  // namespace troupe::net

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  return troupe::net::run(argv[1], argv[2], argv[3]);
}
