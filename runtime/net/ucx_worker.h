// A UCX worker on a loop: sends and receives active messages for the links that share it, and wakes the loop.
// UCX calls back in the middle of its progress; what is found there is only noted, and told to the links afterwards,
// so that a link's user may do anything.
#pragma once
#include <ucp/api/ucp.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <optional>
#include <unordered_map>

#include "runtime/actor/thread_loop.h"
#include "runtime/net/ucx.h"
#include "runtime/wire/buffer.h"

namespace troupe::net {

class UcxWorker;

// A link, as its worker sees it. Called on the loop's thread.
class UcxSink {
 public:
  // Where a piece belongs. Part 0 of a frame is everything but its large buffers, and one piece; part k is the k-th of
  // those.
  struct Place {
    uint64_t sequence = 0;
    uint32_t part = 0;
    uint64_t offset = 0;
    uint64_t total = 0;  // bytes of the part
  };
  // Inside UCX's progress: only notes what came.
  virtual void piece_came(const Place& place, std::span<const std::byte> bytes) = 0;
  // As above, for what UCX fetches by itself: memory for `size` bytes, or nothing where that is too much.
  struct Memory {
    wire::Buffer buffer;
    std::span<std::byte> bytes;
  };
  virtual Memory piece_begins(const Place& place, size_t size) = 0;
  virtual void piece_ended(const Place& place, size_t size) = 0;
  virtual void sent(size_t bytes) = 0;
  virtual void broke(Error cause) = 0;
  // After progress in which any of the above was called.
  virtual void noted() = 0;

 protected:
  ~UcxSink() = default;
};

class UcxWorker final : public actor::Poller, public std::enable_shared_from_this<UcxWorker> {
 public:
  static Result<std::shared_ptr<UcxWorker>> create(actor::ThreadLoop& loop, const UcxOptions& options);
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;
  // REQUIRES: all links have left.
  ~UcxWorker();

  std::span<const std::byte> address() const { return address_; }

  // A link's way to its peer; it keeps the worker, the worker not it. Messages to `own` number reach `sink`, from now
  // on until leave().
  struct Route {
    ucp_ep_h endpoint = nullptr;
    uint64_t own = 0;
    uint64_t peer = 0;
  };
  Result<Route> join(std::shared_ptr<UcxSink> sink, std::span<const std::byte> peer_address, uint64_t own,
                     uint64_t peer);
  // What is still under way is lost. The endpoint is gone.
  void leave(const Route& route);
  // Sends part 0 of a frame, or a piece of one of its large buffers; UcxSink::sent() follows, perhaps within this call.
  // `bytes` are copied unless UCX takes them at once, a buffer is kept until its piece was sent.
  void send(const Route& route, uint64_t sequence, std::span<const std::byte> bytes);
  void send(const Route& route, const UcxSink::Place& place, size_t size, wire::Buffer buffer);
  // Calls back, outside progress, when all that was sent has reached the peer; false where that failed.
  void flush(const Route& route, std::function<void()> flushed);

  bool poll() noexcept override;
  bool arm() noexcept override;

 private:
  struct Operation;
  struct Message;
  struct PieceMessage;

  UcxWorker(actor::ThreadLoop& loop, const UcxOptions& options);
  Status open();
  Operation& take_operation(uint64_t own);
  void give_back(Operation& operation);
  void start_send(const Route& route, Operation& operation, std::span<const std::byte> data, bool rendezvous);
  void note(uint64_t own);
  std::shared_ptr<UcxSink> sink_of(uint64_t own);
  void tell();
  void watch();
  void look();
  static void fetched(Operation& operation, ucs_status_t status);
  ucs_status_t receive(uint64_t link, const UcxSink::Place& place, void* data, size_t size, bool rendezvous);
  static ucs_status_t on_message(void* self, const void* header, size_t header_size, void* data, size_t size,
                                 const ucp_am_recv_param_t* param);
  static void on_error(void* self, ucp_ep_h endpoint, ucs_status_t status);

  actor::ThreadLoop& loop_;
  const UcxOptions options_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  std::vector<std::byte> address_;
  std::optional<boost::asio::posix::stream_descriptor> wakeup_;
  bool watching_ = false;
  actor::Timer timer_;
  bool polled_ = false;  // the loop polls us: there are links, or endpoints that are being closed

  std::unordered_map<uint64_t, std::weak_ptr<UcxSink>> sinks_;  // by own number
  std::unordered_map<ucp_ep_h, uint64_t> endpoints_;
  std::vector<uint64_t> noted_;  // own numbers of the links to tell
  std::vector<std::function<void()>> callbacks_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<Operation*> spare_;
  int64_t closing_ = 0;
  bool destroyed_ = false;
};

}  // namespace troupe::net
