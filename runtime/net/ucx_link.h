// A link over a UCX worker. A frame is one active message (head, buffer lengths, words, small buffers) and one for
// each piece of its large buffers, which the receiver fetches. They may arrive in any order: they are put together by
// sequence number, and delivered in its order. A piece that has come is a sign of life, as large as a buffer may be.
#pragma once
#include <boost/asio/ip/tcp.hpp>
#include <deque>

#include "runtime/net/link_state.h"
#include "runtime/net/ucx_worker.h"

namespace troupe::net {

class UcxLink final : public LinkState, public UcxSink {
 public:
  // `watch`: the TCP connection on which both proved themselves; its end is the end of the peer.
  UcxLink(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options,
          std::shared_ptr<UcxWorker> worker, std::shared_ptr<wire::BufferPool> pool,
          boost::asio::ip::tcp::socket watch);
  ~UcxLink() override { leave(); }
  // REQUIRES: once, before anything else. Errors: UCX knows no way to the peer.
  Status join(std::span<const std::byte> peer_address, uint64_t own, uint64_t peer);

  void piece_came(const Place& place, std::span<const std::byte> bytes) override;
  Memory piece_begins(const Place& place, size_t size) override;
  void piece_ended(const Place& place, size_t size) override;
  void sent(size_t bytes) override;
  void broke(Error cause) override;
  void noted() override;

 protected:
  void open() override;
  void pump() override;
  void finish() override;
  void shut() noexcept override;

 private:
  struct Part {
    uint32_t number = 0;
    wire::Buffer buffer;
    std::span<std::byte> memory;
    std::vector<bool> begun;  // by piece
    size_t missing = 0;       // bytes
  };
  // A frame of which something has come.
  struct Arriving {
    bool head = false;
    wire::Frame frame;
    std::vector<uint32_t> large;  // numbers of the parts it has beside its head
    std::vector<Part> parts;
    bool whole() const;
  };
  std::shared_ptr<UcxLink> self() { return std::static_pointer_cast<UcxLink>(shared_from_this()); }
  void leave() noexcept;
  // A large buffer on its way out.
  struct Leaving {
    uint64_t sequence;
    uint32_t part;
    wire::Buffer buffer;
    size_t offset = 0;
  };
  void send_frame();
  void send_piece();
  Arriving* arriving(uint64_t sequence);
  Part* part_of(Arriving& into, const Place& place);
  void refuse(std::string_view why);
  void take_head(Arriving& into, std::span<const std::byte> bytes);
  void deliver();
  void watch();
  void peer_ended();

  const std::shared_ptr<UcxWorker> worker_;
  const std::shared_ptr<wire::BufferPool> pool_;
  const wire::FrameLimits limits_;
  boost::asio::ip::tcp::socket watch_;
  std::array<std::byte, 16> watched_{};
  std::optional<UcxWorker::Route> route_;
  std::vector<std::byte> scratch_;
  std::deque<Leaving> leaving_;
  int64_t under_way_bytes_ = 0;
  int64_t under_way_ = 0;

  uint64_t next_ = 1;  // sequence number of arriving_'s first
  std::deque<Arriving> arriving_;
  std::optional<Error> broken_;
  bool ready_ = false;  // the peer has joined its worker, too: nothing that is sent is lost
  bool listening_ = false;
  bool came_ = false;  // something of a frame, since deliver()
  bool peer_ended_ = false;
  LinkCore::Time progress_at_{0};
  actor::Timer grace_;
};

}  // namespace troupe::net
